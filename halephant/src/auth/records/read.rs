//! Files to records: continued lines, lists in files, includes.

use super::token::next_token;
use super::{Field, Misplaced, Place, Record, Token};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// PostgreSQL's CONF_FILE_MAX_DEPTH.
const DEPTH_MAX: usize = 10;
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Of all files together, each one as often as it is named.
const TOTAL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// What include_dir takes.
const INCLUDED_SUFFIX: &str = ".conf";

#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    #[error("file \"{}\" cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("file \"{}\" is larger than {FILE_BYTES_MAX} bytes", path.display())]
    TooLarge { path: PathBuf },
    #[error("with the included files it is more than {TOTAL_BYTES_MAX} bytes")]
    TotalTooLarge,
    #[error("files are included more than {DEPTH_MAX} deep")]
    TooDeep,
    #[error("is not UTF-8")]
    NotUtf8,
}

type Mistakes = Vec<Misplaced<RecordsError>>;

/// The records of `path` and of what it includes, in order; or every mistake of the format. Blocks.
pub fn read_records(path: &Path) -> Result<Vec<Record>, Mistakes> {
    let mut reader = Reader { bytes: 0, mistakes: Vec::new() };
    let mut records = Vec::new();
    // Nothing is above the file itself; line 1 of it stands in.
    let place = Place { file: path.into(), line: 1 };
    match read_text(path) {
        Ok(text) => reader.parse(path, &text, 0, &mut records),
        Err(error) => reader.note(&place, error),
    }
    if reader.mistakes.is_empty() { Ok(records) } else { Err(reader.mistakes) }
}

struct Reader {
    bytes: u64,
    mistakes: Mistakes,
}

impl Reader {
    fn note(&mut self, place: &Place, error: RecordsError) {
        self.mistakes.push(Misplaced { place: place.clone(), error });
    }

    fn parse(&mut self, path: &Path, bytes: &[u8], depth: usize, records: &mut Vec<Record>) {
        let file: Arc<Path> = path.into();
        for (line, bytes) in continued_lines(bytes) {
            let place = Place { file: Arc::clone(&file), line };
            match str::from_utf8(&bytes) {
                Ok(text) => self.line(&place, text, depth, records),
                Err(_) => self.note(&place, RecordsError::NotUtf8),
            }
        }
    }

    fn line(&mut self, place: &Place, text: &str, depth: usize, records: &mut Vec<Record>) {
        let mut rest = text;
        let mut fields = Vec::new();
        while !rest.is_empty() {
            let field = self.field(place, &mut rest, depth);
            if !field.is_empty() {
                fields.push(field);
            }
        }
        // A directive is a line of two fields, as in PostgreSQL.
        if let [directive, argument] = &fields[..]
            && let (Some(directive), Some(argument)) = (directive.first(), argument.first())
        {
            let path = beside(&place.file, &argument.text);
            match directive.text.as_str() {
                "include" => return self.include(place, &path, depth, false, records),
                "include_if_exists" => return self.include(place, &path, depth, true, records),
                "include_dir" => return self.include_directory(place, &path, depth, records),
                _ => {}
            }
        }
        if !fields.is_empty() {
            records.push(Record { place: place.clone(), fields });
        }
    }

    /// The next field, which may be empty; the tokens of a file stand in its place.
    fn field(&mut self, place: &Place, rest: &mut &str, depth: usize) -> Field {
        let mut field = Vec::new();
        while let Some((token, comma)) = next_token(rest) {
            match token.file() {
                Some(name) => self.expand(place, &beside(&place.file, name), depth, &mut field),
                None => field.push(token),
            }
            if !comma {
                break;
            }
        }
        field
    }

    fn expand(&mut self, place: &Place, path: &Path, depth: usize, field: &mut Field) {
        let mut records = Vec::new();
        self.include(place, path, depth, false, &mut records);
        let tokens: Vec<Token> = records.into_iter().flat_map(|record| record.fields).flatten().collect();
        field.extend(tokens);
    }

    fn include(
        &mut self,
        place: &Place,
        path: &Path,
        depth: usize,
        may_be_missing: bool,
        records: &mut Vec<Record>,
    ) {
        if depth + 1 > DEPTH_MAX {
            return self.note(place, RecordsError::TooDeep);
        }
        match read_text(path) {
            Ok(text) => {
                self.bytes += text.len() as u64;
                if self.bytes > TOTAL_BYTES_MAX {
                    return self.note(place, RecordsError::TotalTooLarge);
                }
                self.parse(path, &text, depth + 1, records);
            }
            Err(RecordsError::Unreadable { source, .. })
                if may_be_missing && source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.note(place, error),
        }
    }

    /// Its files that end in `.conf` and do not begin with a dot, in the order of their names.
    fn include_directory(&mut self, place: &Place, path: &Path, depth: usize, records: &mut Vec<Record>) {
        let unreadable = |source| RecordsError::Unreadable { path: path.to_owned(), source };
        let listed: io::Result<Vec<_>> = std::fs::read_dir(path).and_then(Iterator::collect);
        let entries = match listed.map_err(unreadable) {
            Ok(entries) => entries,
            Err(error) => return self.note(place, error),
        };
        let is_included = |path: &PathBuf| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            !name.starts_with('.') && name.ends_with(INCLUDED_SUFFIX) && !path.is_dir()
        };
        let mut files: Vec<_> = entries.iter().map(std::fs::DirEntry::path).filter(is_included).collect();
        files.sort_unstable();
        for file in files {
            self.include(place, &file, depth, false, records);
        }
    }
}

/// A name in `file` means a file beside it.
fn beside(file: &Path, name: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(name)
}

fn read_text(path: &Path) -> Result<Vec<u8>, RecordsError> {
    let unreadable = |source| RecordsError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(RecordsError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

/// Lines with the number of their first, a backslash at the end of one joining it with the next.
fn continued_lines(bytes: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let mut lines: Vec<(usize, Vec<u8>)> = Vec::new();
    // How much of the line a backslash may not be looked for in: two of them do not continue twice.
    let mut open: Option<usize> = None;
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let end = line.iter().rposition(|byte| *byte != b'\r').map_or(0, |last| last + 1);
        let line = &line[..end];
        let joined_at = match (open.take(), lines.last_mut()) {
            (Some(length), Some((_, joined))) => {
                joined.extend_from_slice(line);
                length
            }
            _ => {
                lines.push((index + 1, line.to_vec()));
                0
            }
        };
        if let Some((_, joined)) = lines.last_mut()
            && joined.len() > joined_at
            && joined.ends_with(b"\\")
        {
            joined.pop();
            open = Some(joined.len());
        }
    }
    lines
}
