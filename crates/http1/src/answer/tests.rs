//! Heads as servers send them, and as they must not.

use super::*;

fn read(text: &str, method: Method) -> Result<Option<Answer>, HeadFault> {
    read_head(&mut BytesMut::from(text), &method)
}

fn content(headers: &str) -> Result<(Content, bool), HeadFault> {
    let answer = read(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n"), Method::GET)?.expect("whole");
    Ok((answer.content, answer.keep_alive))
}

#[test]
fn a_head_is_taken_off_and_the_rest_stays() {
    let mut buffer = BytesMut::from("HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\nX-A: 1\r\nx-a: \r\n\r\nabc");
    let answer = read_head(&mut buffer, &Method::POST).unwrap().unwrap();
    assert_eq!(answer.head.status, 404);
    assert_eq!(answer.head.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", ""]);
    assert_eq!((answer.content, answer.keep_alive), (Content::Length(3), true));
    assert_eq!(buffer, "abc");
}

#[test]
fn a_head_may_come_a_byte_at_a_time() {
    let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
    let mut buffer = BytesMut::new();
    for (index, byte) in text.bytes().enumerate() {
        buffer.extend_from_slice(&[byte]);
        let answer = read_head(&mut buffer, &Method::GET).unwrap();
        assert_eq!(answer.is_some(), index + 1 == text.len());
    }
    assert!(buffer.is_empty());
}

#[test]
fn bodies_end_as_the_head_says() {
    for (headers, expected) in [
        ("content-length: 5\r\n", (Content::Length(5), true)),
        ("content-length: 0\r\n", (Content::None, true)),
        ("content-length: 5\r\ncontent-length: 5\r\n", (Content::Length(5), true)),
        ("transfer-encoding: Chunked\r\n", (Content::Chunked, true)),
        ("transfer-encoding: chunked\r\nconnection: x, Close\r\n", (Content::Chunked, false)),
        ("transfer-encoding: chunked\r\ncontent-length: 5\r\n", (Content::Chunked, false)),
        ("", (Content::UntilClose, false)),
    ] {
        assert_eq!(content(headers).unwrap(), expected, "{headers:?}");
    }
    for (status, method) in [("204 x", Method::GET), ("304 x", Method::GET), ("200 x", Method::HEAD)] {
        let answer = read(&format!("HTTP/1.1 {status}\r\ncontent-length: 9\r\n\r\n"), method).unwrap().unwrap();
        assert_eq!((answer.content, answer.keep_alive), (Content::None, true), "{status}");
    }
}

#[test]
fn http_1_0_keeps_a_connection_only_when_it_says_so() {
    for (headers, kept) in [
        ("content-length: 1\r\n", false),
        ("content-length: 1\r\nconnection: keep-alive\r\n", true),
        ("transfer-encoding: chunked\r\nconnection: keep-alive\r\n", false),
    ] {
        let answer = read(&format!("HTTP/1.0 200 OK\r\n{headers}\r\n"), Method::GET).unwrap().unwrap();
        assert_eq!(answer.keep_alive, kept, "{headers:?}");
    }
}

#[test]
fn what_cannot_be_relied_upon_is_refused() {
    let framing = ["content-length: 5\r\ncontent-length: 6\r\n", "content-length: +5\r\n", "content-length: 5, 5\r\n"];
    for headers in framing.into_iter().chain(["content-length: \r\n", "content-length: 99999999999999999999\r\n"]) {
        assert_eq!(content(headers).unwrap_err(), HeadFault::Framing("Content-Length"), "{headers:?}");
    }
    for headers in
        ["transfer-encoding: gzip, chunked\r\n", "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n"]
    {
        assert_eq!(content(headers).unwrap_err(), HeadFault::Framing("Transfer-Encoding"), "{headers:?}");
    }
    for text in ["HTTP/2 200 OK\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "\0\0\r\n\r\n", "HTTP/1.1 200 OK\r\na b: c\r\n\r\n"]
    {
        assert!(matches!(read(text, Method::GET), Err(HeadFault::Syntax(_))), "{text:?}");
    }
    assert_eq!(read("HTTP/1.1 101 x\r\n\r\n", Method::GET).unwrap_err(), HeadFault::Upgrade);
}

#[test]
fn heads_have_an_end() {
    let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(LONGEST_HEAD));
    assert_eq!(read(&endless, Method::GET).unwrap_err(), HeadFault::TooLong);
    let headers = |count: usize| (0..count).map(|n| format!("x-{n}: y\r\n")).collect::<String>();
    let answer = read(&format!("HTTP/1.1 200 OK\r\n{}\r\n", headers(MANY)), Method::GET).unwrap().unwrap();
    assert_eq!(answer.head.headers.len(), MANY);
    assert!(read(&format!("HTTP/1.1 200 OK\r\n{}\r\n", headers(MANY + 1)), Method::GET).is_err());
}
