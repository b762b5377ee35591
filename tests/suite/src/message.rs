//! Backend messages as they came, and what is read out of them.

use std::fmt;

#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    pub tag: u8,
    pub body: Vec<u8>,
}

impl Message {
    /// A field of an ErrorResponse or NoticeResponse.
    pub fn field(&self, code: u8) -> Option<String> {
        let mut rest = self.body.as_slice();
        while let Some((&found, after)) = rest.split_first() {
            let end = after.iter().position(|byte| *byte == 0)?;
            if found == code {
                return Some(String::from_utf8_lossy(&after[..end]).into_owned());
            }
            rest = &after[end + 1..];
        }
        None
    }

    /// SQLSTATE of an ErrorResponse or NoticeResponse.
    pub fn sqlstate(&self) -> Option<String> {
        matches!(self.tag, b'E' | b'N').then(|| self.field(b'C')).flatten()
    }

    /// The columns of a DataRow.
    pub fn columns(&self) -> Vec<Option<Vec<u8>>> {
        let mut columns = Vec::new();
        let mut rest = self.body.get(2..).unwrap_or_default();
        while self.tag == b'D' && rest.len() >= 4 {
            let (length, after) = rest.split_at(4);
            let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
            match usize::try_from(length) {
                Ok(length) if length <= after.len() => {
                    columns.push(Some(after[..length].to_vec()));
                    rest = &after[length..];
                }
                Ok(_) => return columns,
                Err(_) => {
                    columns.push(None);
                    rest = after;
                }
            }
        }
        columns
    }

    /// The first column of a DataRow, as text.
    pub fn value(&self) -> Option<String> {
        self.columns().into_iter().next().flatten().map(|value| String::from_utf8_lossy(&value).into_owned())
    }
}

/// The letter, then the body with its bytes escaped, cut where it is long.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 200;
        let shown = &self.body[..self.body.len().min(SHOWN)];
        write!(f, "{} [{}] {}", char::from(self.tag), self.body.len(), shown.escape_ascii())
    }
}

/// The values of the first column of every DataRow.
pub fn values(messages: &[Message]) -> Vec<String> {
    messages.iter().filter(|message| message.tag == b'D').filter_map(Message::value).collect()
}

/// The first ErrorResponse.
pub fn error(messages: &[Message]) -> Option<&Message> {
    messages.iter().find(|message| message.tag == b'E')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fields_and_columns() {
        let error = Message { tag: b'E', body: b"SERROR\0C53300\0Mtoo many\0\0".to_vec() };
        assert_eq!(error.sqlstate().as_deref(), Some("53300"));
        assert_eq!(error.field(b'M').as_deref(), Some("too many"));
        let row = Message { tag: b'D', body: b"\0\x02\0\0\0\x02ab\xff\xff\xff\xff".to_vec() };
        assert_eq!(row.columns(), [Some(b"ab".to_vec()), None]);
    }
}
