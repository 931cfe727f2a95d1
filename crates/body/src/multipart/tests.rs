use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::splice::replace_raw;

fn found(body: &str, boundary: &str) -> Result<Option<String>, ScanError> {
    Ok(find_model(body.as_bytes(), boundary)?.map(|field| {
        assert_eq!(&body[field.span], field.name);
        field.name.into_owned()
    }))
}

fn part(disposition: &str, content: &str) -> String {
    format!("--b\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{content}\r\n")
}

#[test]
fn a_boundary_is_read_as_clients_write_it() {
    for (content_type, expected) in [
        ("multipart/form-data; boundary=abc", Some("abc")),
        ("Multipart/Form-Data;charset=utf-8;BOUNDARY=\"a b;c\"", Some("a b;c")),
        ("multipart/form-data; boundary=\"a\\\"b\"; x=y", Some("a\"b")),
        ("multipart/form-data; x=\"boundary=no\"; boundary=yes ", Some("yes")),
        ("multipart/form-data", None),
        ("multipart/form-data; boundary=", None),
        ("multipart/form-data; boundary=\"\"", None),
        ("multipart/mixed; boundary=abc", None),
        ("application/json; boundary=abc", None),
    ] {
        assert_eq!(boundary(content_type).as_deref(), expected, "{content_type}");
    }
    assert_eq!(boundary(&format!("multipart/form-data; boundary={}", "b".repeat(71))), None);
}

#[test]
fn the_part_is_found_however_its_name_is_written() {
    for disposition in [
        "name=\"model\"",
        "name=model",
        "NAME = \"model\" ; x=1",
        "x=\"name=no; name=nor\"; name=\"mo\\del\"",
        "a;\r\n name=\"model\"",
    ] {
        let expected = if disposition.contains('\\') { None } else { Some("whisper".to_owned()) };
        let body = format!(
            "preamble\r\n{}{}--b--\r\nepilogue",
            part("name=file; filename=a", "\r\n--bx\r\n"),
            part(disposition, "whisper")
        );
        assert_eq!(found(&body, "b"), Ok(expected), "{disposition}");
    }
    let body = "--b \t\r\ncontent-type: text/plain\r\nCONTENT-DISPOSITION:form-data;name=model\r\n\r\nm\r\n--b--";
    assert_eq!(found(body, "b"), Ok(Some("m".into())));
}

#[test]
fn what_is_not_the_part_is_not_taken_for_it() {
    let inside = part("name=prompt", "Content-Disposition: form-data; name=\"model\"\r\n\r\nx");
    assert_eq!(found(&format!("{inside}--b--"), "b"), Ok(None));
    assert_eq!(found(&format!("{}--b--", part("name=\"Model\"", "x")), "b"), Ok(None));
    assert_eq!(found("--b--", "b"), Ok(None));
    assert_eq!(found(&format!("{}--b--{}", part("name=a", ""), part("name=model", "x")), "b"), Ok(None));
    assert_eq!(found("--b\r\nContent-Disposition: attachment; name=model\r\n\r\nx\r\n--b--", "b"), Ok(None));
    assert_eq!(found("--b\r\n\r\nname=model\r\n--b--", "b"), Ok(None));
}

#[test]
fn an_empty_part_has_an_empty_name() {
    assert_eq!(found(&format!("{}--b--", part("name=model", "")), "b"), Ok(Some(String::new())));
}

#[test]
fn a_body_that_is_not_framed_is_refused() {
    for body in
        ["", "x", "--c\r\n\r\n--c--", "--b", "--b\r\nContent-Disposition: form-data; name=model\r\n\r\nx", "--b\r\n"]
    {
        assert!(matches!(found(body, "b"), Err(ScanError::Invalid { .. })), "{body:?}");
    }
    let next = part("name=model", "x");
    for without_content in
        ["", "Content-Disposition: form-data; name=model\r\n", "Content-Disposition: form-data\r\n\r\n"]
    {
        let body = format!("--b\r\n{without_content}{next}--b--");
        assert!(matches!(found(&body, "b"), Err(ScanError::Invalid { .. })), "{body:?}");
    }
    let endless = format!("--b\r\nx: {}\r\n\r\n\r\n--b--", "y".repeat(LONGEST_HEADERS));
    assert!(matches!(found(&endless, "b"), Err(ScanError::Invalid { .. })));
}

#[test]
fn a_model_that_cannot_be_told_is_refused() {
    let twice = format!("{}{}--b--", part("name=model", "a"), part("name=model", "a"));
    assert!(matches!(found(&twice, "b"), Err(ScanError::DuplicateModel { offset: 59 })), "{:?}", found(&twice, "b"));
    let file = format!("{}--b--", part("name=model; filename=m", "a"));
    assert!(matches!(found(&file, "b"), Err(ScanError::InvalidModel { .. })));
    let body = b"--b\r\nContent-Disposition: form-data; name=model\r\n\r\n\xff\r\n--b--";
    assert!(matches!(find_model(body, "b"), Err(ScanError::InvalidModel { offset: 51 })));
}

proptest! {
    #[test]
    fn finds_and_changes_the_model_among_other_parts(
        parts in proptest::collection::vec(("[a-l]{1,6}", "[ -~\r\n]{0,40}"), 0..5),
        at in 0_usize..6,
        name in "[ -~é]{0,20}",
        new in "[ -~é]{0,20}",
    ) {
        let write = |model: &str| {
            let mut body = String::new();
            for (index, (name, content)) in parts.iter().enumerate() {
                if index == at {
                    body += &part("name=\"model\"", model);
                }
                body += &part(&format!("name=\"{name}\""), &content.replace("--b", ""));
            }
            body + "--b--\r\n"
        };
        let body = Bytes::from(write(&name));
        match find_model(&body, "b") {
            Ok(Some(field)) => {
                prop_assert_eq!(&field.name, &name);
                prop_assert_eq!(replace_raw(&body, &field.span, &new).parts.concat(), write(&new).into_bytes());
            }
            Ok(None) => prop_assert!(at >= parts.len()),
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        }
    }

    #[test]
    fn never_panics(body in "(--b|--|\r\n|Content-Disposition: form-data; name=model|:|;|\"|\\\\|[a-z]){0,30}") {
        if let Ok(Some(field)) = find_model(body.as_bytes(), "b") {
            prop_assert_eq!(&body[field.span.clone()], &field.name);
        }
        let _ = boundary(&body);
    }
}
