use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Parsed {
    parse_file("a.yaml", text.as_bytes(), "default")
}

fn keys(parsed: &Parsed) -> Vec<String> {
    parsed.documents.iter().map(|document| document.key.to_string()).collect()
}

fn said(parsed: &Parsed) -> Vec<String> {
    parsed.problems.iter().map(ToString::to_string).collect()
}

const ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata:\n  name: r\n";

#[test]
fn documents_get_their_key_and_place() {
    let parsed = read(&format!(
        "# first\n{ROUTE}---\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: other}}\n"
    ));
    assert_eq!(keys(&parsed), ["HTTPRoute default/r", "Service other/s"]);
    assert_eq!(said(&parsed), [""; 0]);
    assert_eq!(parsed.documents[0].key.group, "gateway.networking.k8s.io");
    assert_eq!(parsed.documents[1].key.group, "");
    assert_eq!(parsed.documents[0].origin.to_string(), "a.yaml:2");
    assert_eq!(parsed.documents[1].origin.index, 1);
    assert_eq!(
        parsed.documents[1].origin.position(&FieldPath::root().key("kind")),
        Some(Position { line: 9, column: 7 })
    );
}

#[test]
fn kinds_without_namespace_have_none() {
    let text = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata:\n  name: c\n  namespace: x\n";
    let parsed = read(text);
    assert_eq!(keys(&parsed), ["GatewayClass c"]);
    let finding = &parsed.documents[0].findings[0];
    assert_eq!((finding.reason, finding.position), ("NamespaceIgnored", Some(Position { line: 5, column: 14 })));
}

#[test]
fn one_broken_document_leaves_the_others() {
    let parsed =
        read(&format!("{ROUTE}---\nkind: `HTTPRoute`\n---\na: [\n---\n{}", ROUTE.replace("name: r", "name: s")));
    assert_eq!(keys(&parsed), ["HTTPRoute default/r", "HTTPRoute default/s"]);
    let said = said(&parsed);
    assert_eq!(said.len(), 2);
    assert_eq!(
        said[0],
        "a.yaml:6:7: a value cannot begin with a backtick: remove the two backticks, write kind: HTTPRoute"
    );
    assert!(said[1].starts_with("a.yaml:"), "{}", said[1]);
    assert_eq!(parsed.documents[1].origin.index, 3);
}

#[test]
fn what_is_missing_is_named() {
    for (text, expected) in [
        ("- a\n", "a.yaml:1:1: an object is a mapping with apiVersion, kind and metadata; this is not a mapping"),
        ("kind: A\n", "a.yaml:1:1: the document has no apiVersion: add it"),
        ("\napiVersion: v1\n", "a.yaml:2:1: the document has no kind: add it"),
        ("apiVersion: v1\nkind: A\nmetadata:\n  labels: {}\n", "a.yaml:3:1: the document has no metadata.name: add it"),
        (
            "apiVersion: v1\nkind: A\nmetadata:\n  name: 5\n",
            "a.yaml:4:9: metadata.name is 5, which is no text: put it in quotes, write \"5\"",
        ),
        (
            "apiVersion: v1\nkind: A\nmetadata: x\n",
            "a.yaml:3:11: metadata of this A is not a mapping: write metadata: {name: …}",
        ),
        ("apiVersion: v1\nkind: [A]\n", "a.yaml:2:7: kind is a list; it must be a text"),
    ] {
        let parsed = read(text);
        assert_eq!(said(&parsed), [expected], "{text}");
        assert!(!parsed.is_empty && parsed.documents.is_empty());
    }
}

#[test]
fn nothing_is_empty() {
    for text in ["", "\n\n", "# only words\n", "---\n---\n", "\u{feff}", "null", "..."] {
        assert!(read(text).is_empty, "{text:?}");
    }
    assert!(parse_file("a.json", b" \n", "default").is_empty);
}

#[test]
fn lists_are_their_items() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  metadata:\n    name: a\n- apiVersion: v1\n  kind: Service\n";
    let parsed = read(text);
    assert_eq!(keys(&parsed), ["Service default/a"]);
    assert_eq!(parsed.documents[0].origin.to_string(), "a.yaml:4");
    let name = FieldPath::root().key("metadata").key("name");
    assert_eq!(parsed.documents[0].origin.position(&name), Some(Position { line: 7, column: 11 }));
    assert_eq!(said(&parsed), ["a.yaml:8:3: the document has no metadata.name: add it"]);
    let typed = read("apiVersion: v1\nkind: ServiceList\nitems:\n- metadata: {name: a}\n");
    assert_eq!(keys(&typed), ["Service default/a"]);
    assert!(!read("apiVersion: v1\nkind: List\nitems: []\n").is_empty);
}

#[test]
fn json_files_are_json() {
    let text = "{\"apiVersion\": \"v1\",\n \"kind\": \"Service\", \"metadata\": {\"name\": \"a\\ud83d\\ude00\"}}\n{\"apiVersion\": v1}";
    let parsed = parse_file("x/a.json", text.as_bytes(), "default");
    assert_eq!(keys(&parsed), ["Service default/a😀"]);
    assert!(said(&parsed)[0].starts_with("x/a.json:3:16: not JSON"), "{:?}", said(&parsed));
    let twice = parse_file("a.json", br#"{"apiVersion": "v1", "apiVersion": "v2"}"#, "default");
    assert!(said(&twice)[0].contains("stands twice"));
}

#[test]
fn bytes_that_are_no_text() {
    let mut bytes = format!("{ROUTE}---\nkind: ").into_bytes();
    bytes.extend(b"\xff\xfe\n---\n");
    bytes.extend(ROUTE.replace("name: r", "name: s").bytes());
    let parsed = parse_file("a.yaml", &bytes, "default");
    assert_eq!(keys(&parsed), ["HTTPRoute default/r", "HTTPRoute default/s"]);
    assert_eq!(said(&parsed), ["a.yaml:6:7: the byte 0xff is not UTF-8: save the file as UTF-8"]);
    let wide: Vec<u8> = "\u{feff}kind: A".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert!(said(&parse_file("a.yaml", &wide, "default"))[0].contains("UTF-16"));
}

#[test]
fn ten_thousand_documents() {
    let text: String =
        (0..10_000).map(|index| format!("---\n{}", ROUTE.replace("name: r", &format!("name: r{index}")))).collect();
    let parsed = read(&text);
    assert_eq!((parsed.documents.len(), parsed.problems.len()), (10_000, 0));
    assert_eq!(parsed.documents[9_999].key.name, "r9999");
}

#[test]
fn more_documents_than_are_read() {
    let parsed = read(&"---\na\n".repeat(MAX_DOCUMENTS + 5));
    assert_eq!(parsed.problems.last().map(|problem| problem.reason), Some("FileTooLarge"));
    assert_eq!(parsed.problems.len(), MAX_DOCUMENTS + 1);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), json in any::<bool>()) {
        let _ = parse_file(if json { "a.json" } else { "a.yaml" }, &bytes, "default");
    }

    /// Whatever one document is, the ones beside it are read.
    #[test]
    fn neighbours_survive(text in "[-a:\\[\\]{}&*!|>'\"%@`#?,<~ \tk0-9\n]{0,80}") {
        prop_assume!(!text.contains("..."));
        let parsed = read(&format!("{ROUTE}---\n{text}\n---\n{ROUTE}"));
        prop_assert!(parsed.documents.len() >= 2, "{:?}", parsed);
    }
}
