use proptest::prelude::*;
use serde_json::json;

use super::*;

fn read(text: &str) -> Result<Tree, Fault> {
    parse(text, Position { line: 1, column: 1 }, &mut Budget::default())
}

fn value(text: &str) -> Value {
    read(text).unwrap_or_else(|fault| panic!("{text}: {fault:?}")).value
}

fn refused(text: &str) -> (usize, usize, String) {
    let fault = read(text).expect_err(text);
    (fault.position.line, fault.position.column, fault.message)
}

fn path(text: &str) -> FieldPath {
    text.split('.').fold(FieldPath::root(), |path, step| match step.parse() {
        Ok(index) => path.index(index),
        Err(_) => path.key(step),
    })
}

#[test]
fn values_and_their_places() {
    let tree = read("kind: A\nspec:\n  rules:\n  - name: x\n    weight:   90\n  flow: {a: [1, 2]}\n  late:\n    \"text\"\n  none:\n").unwrap();
    assert_eq!(
        tree.value,
        json!({"kind": "A", "spec": {"rules": [{"name": "x", "weight": 90}], "flow": {"a": [1, 2]}, "late": "text", "none": null}})
    );
    for (field, line, column) in [
        ("kind", 1, 7),
        ("spec", 2, 1),
        ("spec.rules", 3, 3),
        ("spec.rules.0", 4, 5),
        ("spec.rules.0.name", 4, 11),
        ("spec.rules.0.weight", 5, 15),
        ("spec.flow", 6, 9),
        ("spec.flow.a", 6, 13),
        ("spec.flow.a.1", 6, 17),
        ("spec.late", 8, 5),
        ("spec.none", 9, 7),
    ] {
        assert_eq!(tree.positions.get(&path(field)), Some(&Position { line, column }), "{field}");
    }
    assert_eq!(tree.positions.get(&FieldPath::root()), Some(&Position { line: 1, column: 1 }));
}

#[test]
fn places_count_from_where_the_text_begins() {
    let tree = parse("{\"a\": 1,\n \"b\": 2}", Position { line: 5, column: 11 }, &mut Budget::default()).unwrap();
    assert_eq!(tree.positions.get(&path("a")), Some(&Position { line: 5, column: 17 }));
    assert_eq!(tree.positions.get(&path("b")), Some(&Position { line: 6, column: 7 }));
}

#[test]
fn quoted_is_text_and_line_endings_do_not_matter() {
    assert_eq!(value("a: '1'\r\nb: \"true\"\r\nc: |\r\n  x\r\n  y\r\n"), json!({"a": "1", "b": "true", "c": "x\ny\n"}));
    assert_eq!(value("a: !!str 1\nb: !!int 2\nc: ! 3"), json!({"a": "1", "b": 2, "c": "3"}));
    assert_eq!(value("{\n\t\"a\": 1,\n\t\"b\": \"\\ud83d\\ude00\"\n}"), json!({"a": 1, "b": "😀"}));
    assert_eq!(value("\u{feff}a: 1"), json!({"a": 1}));
    assert_eq!(value("# nothing\n"), Value::Null);
}

#[test]
fn anchors_and_merge_keys() {
    let text =
        "base: &base {a: 1, b: 2}\nother: &other {b: 3, c: 4}\none: {<<: *base, b: 9}\ntwo:\n  <<: [*base, *other]\n";
    let tree = read(text).unwrap();
    assert_eq!(tree.value["one"], json!({"b": 9, "a": 1}));
    assert_eq!(tree.value["two"], json!({"a": 1, "b": 2, "c": 4}));
    assert_eq!(tree.positions.get(&path("two.c")).map(|position| position.line), Some(5));
    assert_eq!(value("a: &x [1]\nb: *x"), json!({"a": [1], "b": [1]}));
    assert_eq!(value("{\"<<\": 1}"), json!({"<<": 1}));
    assert!(refused("a: {<<: 5}").2.contains("merge key"));
}

#[test]
fn what_yaml_or_we_forbid() {
    assert_eq!(refused("a: 1\nb: 2\na: 3"), (3, 1, "the key a stands twice in one mapping: remove one of them".into()));
    assert_eq!(refused("a:\n  80: x").2, "the key 80 is no text: put it in quotes, write \"80\"");
    assert!(refused("{a: 1}: b").2.contains("cannot be a key"));
    assert!(refused("a: !Ref b").2.contains("the tag !Ref has no meaning here"));
    assert!(refused("a: !!binary aGk=").2.contains("!!binary"));
    assert!(refused("a: .inf").2.contains("cannot hold"));
    assert!(refused("a: *nothing").2.contains("anchor"));
    let (line, column, message) = refused("a: 1\nkind: `HTTPRoute`\n");
    assert_eq!((line, column), (2, 7));
    assert!(message.ends_with("remove the two backticks, write kind: HTTPRoute"), "{message}");
}

#[test]
fn bombs_and_endless_values() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..30 {
        let alias = format!("*a{}, ", level - 1).repeat(10);
        laughs.push_str(&format!("a{level}: &a{level} [{}]\n", alias.trim_end_matches(", ")));
    }
    assert!(refused(&laughs).2.contains("copy more than"));
    let long = format!("a: &a {}\nb: [{}]", "x".repeat(1 << 20), vec!["*a"; 1000].join(", "));
    assert!(refused(&long).2.contains("copy more than"));
    assert!(refused("a: &a [*a]").2.contains("has no end"));
    assert!(refused("a: &a {b: &b {c: *a}}").2.contains("has no end"));
    let mut chain = String::from("a0: &a0 [x]\n");
    for level in 1..200 {
        chain.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    assert!(refused(&chain).2.contains("nested deeper than 128"));
}

#[test]
fn deep_nesting_is_refused() {
    for open in ["[", "{a: ", "- ", "{", "? ", "a: [", "[{"] {
        let (.., message) = refused(&open.repeat(100_000));
        assert!(!message.is_empty(), "{open}");
    }
    let blocks: String = (0..300).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    assert!(refused(&blocks).2.contains("nested deeper than 128"));
    let fits = format!("{}1{}", "[".repeat(128 - 1), "]".repeat(128 - 1));
    assert!(read(&fits).is_ok());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e15..1e15).prop_map(|number: f64| Value::from(number)),
        any::<String>().prop_map(Value::from),
        "[ -~]{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "yes", "no", "~", "null", "1", "0x1", "1e3", "- a", "a: b", "#", "`x`", "<<", "", " ", "\n", "---"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[ -~é\t]{0,8}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn json_loads_back(value in any_json()) {
        let wrapped = json!({"value": value});
        prop_assert_eq!(read(&serde_json::to_string(&wrapped).unwrap()).unwrap().value, wrapped.clone());
        prop_assert_eq!(read(&serde_json::to_string_pretty(&wrapped).unwrap()).unwrap().value, wrapped);
    }

    #[test]
    fn yaml_loads_back(value in any_json()) {
        let wrapped = json!({"value": value});
        let text = serde_saphyr::to_string(&wrapped).unwrap();
        let tree = read(&text);
        prop_assert!(tree.is_ok(), "{:?}\n{}", tree, text);
        prop_assert_eq!(tree.unwrap().value, wrapped, "{}", text);
    }

    #[test]
    fn no_text_panics(text in "[-a:\\[\\]{}&*!|>'\"%@`#?,<~ \t\n\r.0-9]{0,120}") {
        let _ = read(&text);
    }

    #[test]
    fn no_characters_panic(text in any::<String>()) {
        let _ = read(&text);
    }
}
