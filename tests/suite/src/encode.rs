//! Frontend messages, as the manual's chapter "Message Formats" lays them out.

/// A message of type `tag`.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(length(body.len() + 4));
    bytes.extend(body);
    bytes
}

/// A message without a type, as the first of a connection is.
pub fn untagged(body: &[u8]) -> Vec<u8> {
    let mut bytes = length(body.len() + 4).to_vec();
    bytes.extend(body);
    bytes
}

/// StartupMessage of protocol `major.minor`.
pub fn startup(major: u16, minor: u16, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = [major.to_be_bytes(), minor.to_be_bytes()].concat();
    for (name, value) in parameters {
        body.extend(string(name));
        body.extend(string(value));
    }
    body.push(0);
    untagged(&body)
}

pub fn cancel_request(process_id: u32, secret_key: &[u8]) -> Vec<u8> {
    untagged(&[&80_877_102_u32.to_be_bytes(), &process_id.to_be_bytes(), secret_key].concat())
}

pub fn ssl_request() -> Vec<u8> {
    untagged(&80_877_103_u32.to_be_bytes())
}

pub fn gssenc_request() -> Vec<u8> {
    untagged(&80_877_104_u32.to_be_bytes())
}

pub fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &string(sql))
}

pub fn parse(statement: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[string(statement), string(sql), vec![0, 0]].concat())
}

/// Bind with text parameters and text results.
pub fn bind(portal: &str, statement: &str, parameters: &[Option<&str>]) -> Vec<u8> {
    let parameters: Vec<_> = parameters.iter().map(|value| value.map(str::as_bytes)).collect();
    bind_with(portal, statement, &[], &parameters, &[])
}

/// Bind with format codes: none for all text, one for all, or one each.
pub fn bind_with(
    portal: &str,
    statement: &str,
    formats: &[u16],
    parameters: &[Option<&[u8]>],
    results: &[u16],
) -> Vec<u8> {
    let mut body = [string(portal), string(statement)].concat();
    body.extend(shorts(formats));
    body.extend(count(parameters.len()));
    for parameter in parameters {
        match parameter {
            Some(value) => {
                body.extend(length(value.len()));
                body.extend(*value);
            }
            None => body.extend((-1_i32).to_be_bytes()),
        }
    }
    body.extend(shorts(results));
    message(b'B', &body)
}

pub fn describe_statement(name: &str) -> Vec<u8> {
    message(b'D', &[b"S".to_vec(), string(name)].concat())
}

pub fn describe_portal(name: &str) -> Vec<u8> {
    message(b'D', &[b"P".to_vec(), string(name)].concat())
}

/// `rows` of 0 means all.
pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
    message(b'E', &[string(portal), rows.to_be_bytes().to_vec()].concat())
}

pub fn close_statement(name: &str) -> Vec<u8> {
    message(b'C', &[b"S".to_vec(), string(name)].concat())
}

pub fn close_portal(name: &str) -> Vec<u8> {
    message(b'C', &[b"P".to_vec(), string(name)].concat())
}

pub fn sync() -> Vec<u8> {
    message(b'S', b"")
}

pub fn flush() -> Vec<u8> {
    message(b'H', b"")
}

pub fn copy_data(data: &[u8]) -> Vec<u8> {
    message(b'd', data)
}

pub fn copy_done() -> Vec<u8> {
    message(b'c', b"")
}

pub fn copy_fail(reason: &str) -> Vec<u8> {
    message(b'f', &string(reason))
}

/// FunctionCall with text arguments and a text result.
pub fn function_call(oid: u32, arguments: &[&str]) -> Vec<u8> {
    let arguments: Vec<_> = arguments.iter().map(|argument| argument.as_bytes()).collect();
    function_call_with(oid, &[], &arguments, 0)
}

/// FunctionCall with format codes: none for all text, one for all, or one each, and that of the result.
pub fn function_call_with(oid: u32, formats: &[u16], arguments: &[&[u8]], result: u16) -> Vec<u8> {
    let mut body = oid.to_be_bytes().to_vec();
    body.extend(shorts(formats));
    body.extend(count(arguments.len()));
    for argument in arguments {
        body.extend(length(argument.len()));
        body.extend(*argument);
    }
    body.extend(result.to_be_bytes());
    message(b'F', &body)
}

pub fn terminate() -> Vec<u8> {
    message(b'X', b"")
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("messages of tests are short").to_be_bytes()
}

fn count(count: usize) -> [u8; 2] {
    u16::try_from(count).expect("the protocol counts in 16 bits").to_be_bytes()
}

fn shorts(values: &[u16]) -> Vec<u8> {
    let mut bytes = count(values.len()).to_vec();
    bytes.extend(values.iter().flat_map(|value| value.to_be_bytes()));
    bytes
}
