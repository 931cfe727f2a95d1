//! The `model` part of a `multipart/form-data` body (audio transcription).
//!
//! The counterpart of [`crate::scan`] for the one kind of request that is not JSON. Follows RFC 7578 and the framing of
//! RFC 2046; of the parts it reads the headers alone, and it goes through the body once.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memmem;

use crate::scan::{ModelField, ScanError};

/// RFC 2046 allows no longer one.
const LONGEST_BOUNDARY: usize = 70;
/// A part's headers name it and its type; more than this is not a form.
const LONGEST_HEADERS: usize = 16 * 1024;

/// The boundary that a content type names. `None` when it is no `multipart/form-data`, or names no boundary of 1 to 70
/// bytes.
pub fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameter(parameters.as_bytes(), "boundary")?;
    let boundary = String::from_utf8(boundary).ok()?;
    let fits = (1..=LONGEST_BOUNDARY).contains(&boundary.len());
    (fits && boundary.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')).then_some(boundary)
}

/// Finds the part named `model`.
///
/// # Errors
/// [`ScanError`] when the body is not framed by the boundary, when there are two such parts, or its content is not
/// valid UTF-8 or is a file.
pub fn find_model<'a>(body: &'a [u8], boundary: &str) -> Result<Option<ModelField<'a>>, ScanError> {
    let delimiter = format!("\r\n--{boundary}");
    let finder = memmem::Finder::new(&delimiter);
    let mut at = first_delimiter(body, &delimiter, &finder)
        .ok_or(ScanError::Invalid { what: "no line with the boundary that the content type names", offset: 0 })?;
    let mut model = None;
    loop {
        let Some(part) = part_start(body, at)? else { return Ok(model) };
        // The line break behind one delimiter can be the one that begins the next.
        let end = find_delimiter(body, part.saturating_sub(2), &finder)
            .ok_or(ScanError::Invalid { what: "a part that no boundary ends", offset: part })?;
        let content = content_start(body, part, end)?;
        let headers = body.get(part..content).unwrap_or_default();
        if let Some(disposition) = disposition(headers).filter(|found| found.name == b"model") {
            if model.is_some() {
                return Err(ScanError::DuplicateModel { offset: part });
            }
            model = Some(field(body, content..end, disposition.is_file)?);
        }
        at = end + delimiter.len();
    }
}

fn field(body: &[u8], span: Range<usize>, is_file: bool) -> Result<ModelField<'_>, ScanError> {
    let invalid = ScanError::InvalidModel { offset: span.start };
    if is_file {
        return Err(invalid);
    }
    let content = body.get(span.clone()).unwrap_or_default();
    let name = std::str::from_utf8(content).map_err(|_| invalid)?;
    Ok(ModelField { span, name: Cow::Borrowed(name) })
}

/// Offset behind the first delimiter, which may stand at the very start.
fn first_delimiter(body: &[u8], delimiter: &str, finder: &memmem::Finder<'_>) -> Option<usize> {
    let bare = delimiter.trim_start();
    if body.starts_with(bare.as_bytes()) && ends_delimiter(body, bare.len()) {
        return Some(bare.len());
    }
    find_delimiter(body, 0, finder).map(|found| found + delimiter.len())
}

/// Offset of the next delimiter, its line break included. A longer line that only begins like one is content.
fn find_delimiter(body: &[u8], mut from: usize, finder: &memmem::Finder<'_>) -> Option<usize> {
    loop {
        let found = from + finder.find(body.get(from..)?)?;
        if ends_delimiter(body, found + finder.needle().len()) {
            return Some(found);
        }
        from = found + 1;
    }
}

fn ends_delimiter(body: &[u8], at: usize) -> bool {
    let rest = body.get(at..).unwrap_or_default();
    rest.starts_with(b"--") || rest.get(padding(rest)..).is_some_and(|rest| rest.starts_with(b"\r\n"))
}

fn padding(rest: &[u8]) -> usize {
    rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count()
}

/// Where the part behind a delimiter begins; `None` behind the last one.
fn part_start(body: &[u8], at: usize) -> Result<Option<usize>, ScanError> {
    let rest = body.get(at..).unwrap_or_default();
    if rest.starts_with(b"--") {
        return Ok(None);
    }
    let padding = padding(rest);
    if rest.get(padding..).is_some_and(|rest| rest.starts_with(b"\r\n")) {
        Ok(Some(at + padding + 2))
    } else {
        Err(ScanError::Invalid { what: "expected a line break behind the boundary", offset: at })
    }
}

/// Where the content behind a part's headers begins.
fn content_start(body: &[u8], part: usize, end: usize) -> Result<usize, ScanError> {
    let headers = body.get(part..end.min(part + LONGEST_HEADERS)).unwrap_or_default();
    if headers.starts_with(b"\r\n") {
        return Ok(part + 2);
    }
    memmem::find(headers, b"\r\n\r\n").map(|blank| part + blank + 4).ok_or(ScanError::Invalid {
        what: "a part without an empty line behind at most 16 KiB of headers",
        offset: part,
    })
}

struct Disposition {
    name: Vec<u8>,
    is_file: bool,
}

/// What the `Content-Disposition: form-data` among these headers says. Lines that continue a header are joined to it.
fn disposition(headers: &[u8]) -> Option<Disposition> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for line in headers.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match (line.first(), lines.last_mut()) {
            (Some(b' ' | b'\t'), Some(last)) => last.extend_from_slice(line),
            _ => lines.push(line.to_vec()),
        }
    }
    lines.iter().find_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        let (name, value) = line.split_at_checked(colon)?;
        if !name.trim_ascii().eq_ignore_ascii_case(b"content-disposition") {
            return None;
        }
        let value = value.get(1..)?;
        let (kind, parameters) = value.split_at_checked(memchr::memchr(b';', value)?)?;
        if !kind.trim_ascii().eq_ignore_ascii_case(b"form-data") {
            return None;
        }
        let is_file = parameter(parameters, "filename").or_else(|| parameter(parameters, "filename*")).is_some();
        Some(Disposition { name: parameter(parameters, "name")?, is_file })
    })
}

/// The value of one parameter in `; name=value; name="quoted \" value"`, its quotes and backslashes undone.
fn parameter(mut parameters: &[u8], wanted: &str) -> Option<Vec<u8>> {
    loop {
        let start = parameters.iter().position(|byte| !matches!(byte, b';' | b' ' | b'\t'))?;
        parameters = parameters.get(start..)?;
        let name_length = parameters.iter().position(|byte| matches!(byte, b'=' | b';')).unwrap_or(parameters.len());
        let (name, rest) = parameters.split_at_checked(name_length)?;
        let found = name.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes());
        let Some(value) = rest.strip_prefix(b"=") else {
            parameters = rest;
            continue;
        };
        let (value, rest) = parameter_value(value.trim_ascii_start());
        if found {
            return Some(value);
        }
        parameters = rest;
    }
}

/// A value, and what stands behind it.
fn parameter_value(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let length = text.iter().position(|byte| *byte == b';').unwrap_or(text.len());
        let (value, rest) = text.split_at_checked(length).unwrap_or((text, &[]));
        return (value.trim_ascii().to_vec(), rest);
    };
    let mut value = Vec::new();
    let mut rest = quoted;
    loop {
        rest = match rest {
            [b'\\', escaped @ (b'"' | b'\\'), behind @ ..] => {
                value.push(*escaped);
                behind
            }
            [b'"', behind @ ..] => {
                let end = behind.iter().position(|byte| *byte == b';').unwrap_or(behind.len());
                return (value, behind.get(end..).unwrap_or_default());
            }
            [byte, behind @ ..] => {
                value.push(*byte);
                behind
            }
            [] => return (value, rest),
        };
    }
}

#[cfg(test)]
mod tests;
