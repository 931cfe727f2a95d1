use std::sync::Arc;

use bytes::Bytes;
use http::Request;

use super::*;

fn parts(body: ForwardBody) -> Vec<u8> {
    match body {
        ForwardBody::Buffered(parts) => parts.concat(),
        other => panic!("{other:?}"),
    }
}

fn read(text: &'static str, model: Option<&str>, place: ModelPlace) -> ReadBody {
    ReadBody {
        bytes: Bytes::from_static(text.as_bytes()),
        model: model.map(Arc::from),
        place,
        stream: false,
        kept: true,
        ..ReadBody::default()
    }
}

#[test]
fn hop_by_hop_headers_are_removed_and_others_stay() {
    let (mut head, ()) = Request::get("/")
        .header("connection", "close, X-Mine, host, content-length")
        .header("x-mine", "1")
        .header("host", "a")
        .header("content-length", "0")
        .header("keep-alive", "timeout=5")
        .header("te", "trailers")
        .header("transfer-encoding", "chunked")
        .header("upgrade", "h2c")
        .header("proxy-authorization", "x")
        .header("authorization", "Bearer x")
        .body(())
        .unwrap()
        .into_parts();
    remove_hop_by_hop(&mut head.headers);
    let mut left: Vec<&str> = head.headers.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["authorization", "content-length", "host"]);
}

#[test]
fn header_changes_apply_in_their_order() {
    let (a, b) = (HeaderName::from_static("a"), HeaderName::from_static("b"));
    let value = HeaderValue::from_static;
    let changes = HeaderChanges {
        set: vec![(a.clone(), value("set"))],
        add: vec![(a.clone(), value("added")), (b.clone(), value("new"))],
        remove: vec![HeaderName::from_static("c")],
    };
    let mut headers: HeaderMap =
        [(a.clone(), value("1")), (HeaderName::from_static("c"), value("2"))].into_iter().collect();
    headers.append(a.clone(), value("other"));
    change_headers(&mut headers, &changes);
    assert_eq!(headers.get_all(&a).iter().collect::<Vec<_>>(), ["set", "added"]);
    assert_eq!(headers[&b], "new");
    assert!(!headers.contains_key("c"));
}

/// The table of HTTPPathModifier.replacePrefixMatch in the Gateway API.
#[test]
fn prefixes_are_replaced_as_specified() {
    for (path, prefix, replacement, expected) in [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/foo?a=1", "/foo", "/x", "/x?a=1"),
    ] {
        let uri: Uri = path.parse().unwrap();
        let rewrite = PathRewrite::Prefix(replacement.into());
        assert_eq!(rewritten_path(&uri, &rewrite, prefix.len()), expected, "{path} {prefix} {replacement}");
    }
    let uri: Uri = "/a/b?q=1".parse().unwrap();
    assert_eq!(rewritten_path(&uri, &PathRewrite::Full("/x".into()), 0), "/x?q=1");
}

#[test]
fn only_the_models_bytes_change() {
    let text = r#"{"model" : "a\u0062", "n":1}"#;
    let json = read(text, Some("ab"), ModelPlace::Json(11..20));
    assert_eq!(parts(body(&json, Some("other"))), br#"{"model" : "other", "n":1}"#);
    // The same name stays in the client's own spelling.
    assert_eq!(parts(body(&json, Some("ab"))), text.as_bytes());
    assert_eq!(parts(body(&json, None)), text.as_bytes());
    let none = read(r#"{"n":1}"#, None, ModelPlace::Insert { object_start: 1, empty: false });
    assert_eq!(parts(body(&none, Some("m"))), br#"{"model":"m","n":1}"#);
    let opaque = read("abc", None, ModelPlace::None);
    assert_eq!(parts(body(&opaque, Some("m"))), b"abc");
    assert!(matches!(body(&ReadBody::default(), Some("m")), ForwardBody::Empty));
}
