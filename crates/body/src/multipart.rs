//! The `model` part of a `multipart/form-data` body (audio transcription).

use crate::scan::{ModelField, ScanError};

/// The boundary that a content type names.
pub fn boundary(content_type: &str) -> Option<String> {
    let _ = content_type;
    None
}

/// Finds the part named `model`.
///
/// # Errors
/// [`ScanError`] when the body is not framed by the boundary, when there are two such parts, or its content is not
/// valid UTF-8.
pub fn find_model<'a>(body: &'a [u8], boundary: &str) -> Result<Option<ModelField<'a>>, ScanError> {
    let _ = (body, boundary);
    Ok(None)
}
