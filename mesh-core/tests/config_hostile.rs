//! Whatever a file says: no panic, no endless work, and what is not understood is said.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test crate uses its part")]
#[path = "schema/example.rs"]
mod example;

use example::Example;
use mesh_core::config::{
    Accepted, Code, Kind, Loaded, Options, SourceFile, load,
    schema::Schema,
    tree::{Node, Value},
};
use proptest::prelude::*;
use serde_json::json;
use std::fmt::Write as _;

const CANARY: &str = include_str!("fixtures/canary.yaml");
const EVERY_FIELD: &str = include_str!("fixtures/every-field.yaml");

#[test]
fn a_file_that_is_too_large_is_refused_unread() {
    let text = format!("{CANARY}---\n# {}\n", "x".repeat(10 * 1024 * 1024));
    let loaded = read(&text);
    assert_eq!(loaded.diagnostics.len(), 1);
    assert_eq!(loaded.diagnostics[0].code, Code::TOO_LARGE);
    assert!(loaded.diagnostics[0].message.contains("8388608"), "{}", loaded.diagnostics[0]);
    assert!(!loaded.complete && loaded.resources.is_empty());
}

#[test]
fn a_file_with_thousands_of_routes_is_read_whole() {
    let mut text = String::new();
    while text.len() < 1024 * 1024 {
        let number = text.len();
        text += &CANARY.split("---\n").nth(1).unwrap().replace("payment-route", &format!("r{number}"));
        text += "---\n";
    }
    let loaded = read(&text);
    assert!(loaded.complete && loaded.diagnostics.is_empty());
    assert_eq!(loaded.resources.len(), text.matches("VirtualService").count());
}

/// Each is as large as a file may be, or grows beyond every bound when it is understood literally.
#[test]
fn input_made_to_exhaust_the_reader_is_refused_and_the_next_document_is_read() {
    let fill = |unit: &str| unit.repeat(300_000 / unit.len());
    let laughs: String = (1..40).fold("a0: &a0 [lol, lol, lol, lol]\n".to_owned(), |text, n| {
        let alias = format!("*a{}", n - 1);
        text + &format!(
            "a{n}: &a{n} [{alias}, {alias}, {alias}, {alias}, {alias}, {alias}, {alias}, {alias}]\n"
        )
    });
    let nested_anchors: String = (0..90).map(|n| format!("&n{n} [")).collect();
    for hostile in [
        fill("["),
        fill("{"),
        fill("{a: "),
        fill("[{a: "),
        fill("- "),
        fill("? "),
        fill("a: "),
        fill("- - - - \n"),
        fill("]"),
        fill("\t"),
        fill("\u{0}"),
        fill("\""),
        fill("'"),
        fill("&a "),
        fill("*a "),
        fill("!a "),
        fill("%a\n"),
        fill(": : "),
        fill("|\n"),
        fill(">\n "),
        fill("# x\n"),
        fill("...\n"),
        fill("---\n]\n"),
        fill("\u{feff}"),
        fill("a\n"),
        fill("\"\\x\" "),
        format!("a: |\n{}", fill("  x\n")),
        (0..100_000).map(|n| format!("{}{}\n", " ".repeat(n % 90), "-")).collect(),
        (0..90).map(|n| format!("{}a:\n", " ".repeat(n))).collect(),
        (0..500).map(|n| format!("{}a:\n", " ".repeat(n))).collect(),
        laughs,
        nested_anchors,
    ] {
        let loaded = read(&format!("{hostile}\n---\n{CANARY}"));
        let kinds = loaded.resources.len();
        let too_large = loaded.diagnostics.iter().any(|finding| finding.code == Code::TOO_LARGE);
        let gave_up = loaded.diagnostics.iter().any(|finding| finding.message.contains("the rest of"));
        assert!(kinds == 3 || too_large || gave_up, "{:.40}: {:?}", hostile, loaded.diagnostics.first());
        assert!(loaded.diagnostics.len() <= 1001);
    }
}

#[test]
fn nesting_up_to_the_bound_is_read_and_beyond_it_refused() {
    let nested = |depth: usize| {
        format!("apiVersion: example.com/v1\nkind: Deep\nspec: {}{}\n", "[".repeat(depth), "]".repeat(depth))
    };
    assert!(read(&nested(95)).complete);
    for depth in [96, 97, 300, 100_000] {
        let loaded = read(&nested(depth));
        assert_eq!(loaded.diagnostics[0].code, Code::TOO_LARGE, "{depth}");
        assert!(!loaded.complete);
    }
}

#[test]
fn lists_within_lists_are_read_up_to_the_same_bound() {
    let object = "{apiVersion: v1, kind: Service, metadata: {name: a}}";
    let list =
        |depth: usize| format!("{}{object}{}", "{kind: List, items: [".repeat(depth), "]}".repeat(depth));
    assert_eq!(read(&list(40)).resources.len(), 1);
    for depth in [60, 10_000] {
        let loaded = read(&list(depth));
        assert_eq!((loaded.diagnostics[0].code, loaded.complete), (Code::TOO_LARGE, false), "{depth}");
    }
}

#[test]
fn a_file_of_more_values_than_the_bound_is_read_up_to_it() {
    let values = "a,".repeat(20_000);
    let object = |number: usize| {
        format!("{{apiVersion: v1, kind: Service, metadata: {{name: s{number}}}, status: [{values}]}}\n---\n")
    };
    let loaded = read(&(0..60).map(object).collect::<String>());
    assert!(!loaded.complete);
    assert_eq!(loaded.resources.len(), 49, "fifty hold a million values and their envelopes");
    assert!(loaded.diagnostics.iter().any(|finding| finding.code == Code::TOO_LARGE));
    within_bounds(&loaded);
}

#[test]
fn an_alias_costs_as_much_as_what_it_stands_for_wherever_it_stands() {
    for kind in [Kind::VirtualService, Kind::AuthorizationPolicy, Kind::Service] {
        let laughs: String = (1..30).fold("x-0: &x0 [a, a, a, a, a, a, a, a]\n".to_owned(), |text, n| {
            let alias = format!("*x{}", n - 1);
            let aliases = [alias.as_str(); 8].join(", ");
            text + &format!("x-{n}: &x{n} [{aliases}]\n")
        });
        let document = as_yaml(&Example::new(1).object(&Schema::of(kind)));
        let loaded = read(&format!("{document}{laughs}"));
        assert!(loaded.diagnostics.iter().any(|finding| finding.code == Code::TOO_LARGE), "{kind}");
        assert!(!loaded.complete);
        within_bounds(&loaded);
    }
}

#[test]
fn a_regular_expression_that_is_too_long_or_compiles_too_large_is_refused() {
    let with = |regex: &str| {
        let regex = json!(regex);
        read(&format!(
            "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: a}}, spec: {{hosts: [a], \
             http: [{{match: [{{uri: {{regex: {regex}}}}}], redirect: {{uri: /}}}}]}}}}"
        ))
    };
    assert_eq!(with("/api/v[0-9]+(/.*)?").resources.len(), 1);
    for regex in
        ["a".repeat(1025), "(a{1000}){1000}".into(), "\\pL{1000}".into(), "(".repeat(600), "((a*)*)*{".into()]
    {
        let loaded = with(&regex);
        let refused = loaded.diagnostics.iter().filter(|finding| finding.is_error());
        let codes: Vec<_> = refused.map(|finding| finding.code).collect();
        assert_eq!((codes, loaded.broken.len()), (vec![Code::INVALID_REGEXP], 1), "{regex:.20}");
        within_bounds(&loaded);
    }
}

#[test]
fn regular_expressions_that_are_too_large_together_are_refused_from_the_one_on_that_does_not_fit() {
    let files = |regex: &str, count: usize| {
        let object = |index| {
            format!(
                "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: a{index}}}, spec: \
                 {{hosts: [a{index}], http: [{{match: [{{uri: {{regex: '{regex}'}}}}], redirect: {{uri: /}}}}]}}}}\n---\n"
            )
        };
        read(&(0..count).map(object).collect::<String>())
    };
    let large = files(r"\pL{12}", 200);
    let (good, refused) = (large.resources.len(), large.broken.len());
    assert!((10..150).contains(&good) && good + refused == 200, "{good} read, {refused} refused");
    let errors: Vec<_> = large.diagnostics.iter().filter(|finding| finding.is_error()).collect();
    assert!(errors.iter().all(|finding| finding.code == Code::TOO_LARGE), "{errors:#?}");
    assert_eq!((errors.len(), &*errors[0].path), (refused, "spec.http[0].match[0].uri.regex"));
    assert_eq!(&*large.broken[0].name, format!("a{good}"));
    // Another file has room of its own, and what is small needs none.
    assert_eq!(files(r"\pL{12}", 1).resources.len(), 1);
    assert_eq!(files("/api/v[0-9]+/[^/]+(/.*)?", 1000).resources.len(), 1000);
    // What is too large by itself takes as much as it costs.
    let vain = files(r"\pL{1000}", 100);
    let codes: Vec<_> =
        vain.diagnostics.iter().filter(|finding| finding.is_error()).map(|f| f.code).collect();
    assert_eq!((codes[0], codes[99]), (Code::INVALID_REGEXP, Code::TOO_LARGE));
}

#[test]
fn documents_without_number_are_read_and_their_findings_are_not_all_kept() {
    let valid = "{apiVersion: v1, kind: Service, metadata: {name: a}}";
    for (document, readable) in [("a", true), ("{kind: X}", true), (valid, true), ("[", false), ("}", false)]
    {
        let loaded = read(&format!("{document}\n---\n").repeat(20_000));
        within_bounds(&loaded);
        let gave_up = loaded.diagnostics.iter().any(|finding| finding.message.contains("the rest of"));
        assert_eq!(gave_up, !readable, "{document}");
    }
}

#[test]
fn more_findings_than_anybody_reads_are_counted_instead_of_kept() {
    let fields: String = (0..5000).map(|number| format!("  f{number}: 1\n")).collect();
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: a}}\nspec:\n{fields}"
    );
    let loaded = read(&text);
    assert!(loaded.diagnostics.len() < 100);
    let counted =
        loaded.diagnostics.iter().find(|finding| finding.message.contains("more findings")).unwrap();
    assert_eq!(counted.location.as_ref().unwrap().line, 54, "where the list of them ends");
}

#[test]
fn work_grows_with_the_file_and_not_with_its_square() {
    let object = |kind: &str, spec: &str| {
        format!("apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec:\n{spec}")
    };
    let many = |line: &dyn Fn(usize) -> String| (0..10_000).map(line).collect::<String>();
    let route = |subset: &str| {
        let to =
            many(&|n| format!("    - destination: {{host: h{n}, subset: {subset}{n}}}\n      weight: 1\n"));
        object("VirtualService", &format!("  hosts: [a]\n  http:\n  - route:\n{to}"))
    };
    let ports = many(&|n| format!("  - {{number: {}, name: p{n}}}\n", n + 1));
    let endpoints = many(&|n| format!("  - {{address: 10.0.0.1, ports: {{p{n}: 1}}}}\n"));
    let hosts = many(&|n| format!("  - '*.h{n}'\n"));
    for text in [
        object("DestinationRule", &many(&|n| format!("  weihgt_of_a_field_with_a_long_name_{n}: 1\n"))),
        object(
            "ServiceEntry",
            &format!("  hosts: [a.com]\n  resolution: STATIC\n  ports:\n{ports}  endpoints:\n{endpoints}"),
        ),
        object("VirtualService", &format!("  hosts:\n{hosts}  http: []\n")),
        route("v"),
    ] {
        // 10⁸ steps would take minutes here.
        let before = accept(&Accepted::default(), &text);
        accept(&before, &text.replace("subset: v", "subset: w"));
    }
}

#[test]
fn aliases_stand_for_what_they_name() {
    let text = CANARY.replace("{version: v1}", "&one {version: v1}").replace("{version: v2}", "*one");
    let loaded = read(&text);
    assert_eq!((loaded.resources.len(), loaded.diagnostics.len()), (3, 1));
    let json = loaded.resources[0].document.to_json();
    assert_eq!(json["spec"]["subsets"][1]["labels"]["version"], "v1");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_without_a_panic(text in any::<String>()) {
        check(&text);
    }

    #[test]
    fn any_text_of_yaml_letters_is_read_without_a_panic(text in "[ \\t\\n\\-:,?&*!|>'\"%@`{}\\[\\]#~a0.]{0,200}") {
        check(&text);
    }

    #[test]
    fn a_file_cut_anywhere_is_read_without_a_panic(cut in 0..EVERY_FIELD.len()) {
        check(&EVERY_FIELD[..cut]);
    }

    /// Words of a good file replaced by others that are likely to mean something.
    #[test]
    fn a_mutated_file_is_read_without_a_panic_and_keeps_what_was_good(
        mutations in prop::collection::vec((any::<prop::sample::Index>(), 0..TOKENS.len(), 0..20_usize), 1..6)
    ) {
        let text = mutated(EVERY_FIELD.to_owned(), &mutations);
        check(&text);
        let before = accept(&Accepted::default(), EVERY_FIELD);
        let after = accept(&before, &text);
        // Whatever happened to the file, no object is replaced by nothing because it does not read.
        let whole = load("mesh.yaml", &text, &Options::default());
        if !whole.complete {
            let lost = before.resources.iter().filter(|old| !after.resources.iter().any(|new| new.key == old.key));
            prop_assert_eq!(lost.count(), 0);
        }
        let again = accept(&after, &text);
        prop_assert_eq!(again.resources, after.resources);
    }

    /// Every kind, in block style, in flow style as JSON, and in lists of both sorts, with words replaced by others.
    #[test]
    fn a_mutated_object_of_any_kind_is_read_without_a_panic(
        kind in prop::sample::select(Kind::ALL.to_vec()),
        seed: u64,
        style in 0..4_usize,
        mutations in prop::collection::vec((any::<prop::sample::Index>(), 0..TOKENS.len(), 0..20_usize), 0..4)
    ) {
        let object = Example::new(seed).object(&Schema::of(kind));
        let text = match style {
            0 => as_yaml(&object),
            1 => object.to_string(),
            2 => json!({"apiVersion": "v1", "kind": "List", "items": [object.clone(), object]}).to_string(),
            _ => json!([object]).to_string(),
        };
        check(&mutated(text, &mutations));
    }

    /// Values of another type, and of sizes that nobody writes, in the place of one that is right.
    #[test]
    fn an_object_of_any_kind_with_a_wrong_value_is_read_without_a_panic(
        kind in prop::sample::select(Kind::ALL.to_vec()),
        seed: u64,
        value in wrong_value()
    ) {
        let mut object = Example::new(seed).object(&Schema::of(kind));
        example::replace_a_value(&mut object, value, seed);
        check(&object.to_string());
        check(&as_yaml(&object));
    }

    /// A broken document between two good ones costs neither of them.
    #[test]
    fn a_broken_document_costs_no_other(broken in "[ a-z:,&*!'\"{}\\[\\]\\n\\t]{0,80}") {
        // A document can end only at a line that is `---` by itself.
        let text = format!("{}---\n{broken}\n---\n{CANARY}", CANARY.split("---\n").next().unwrap().replace("payment-service", "first"));
        let loaded = read(&text);
        prop_assert_eq!(loaded.resources.len(), 4, "{:?}", loaded.diagnostics);
    }
}

const TOKENS: [&str; 32] = [
    "",
    " ",
    "\n",
    "\t",
    ":",
    "-",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "'",
    "\"",
    "#",
    "&a ",
    "*a",
    "!!str ",
    "|\n",
    "~",
    "null",
    "-1",
    "99999999999999999999",
    "1.5",
    "true",
    "\u{0}",
    "\u{feff}",
    "é",
    "---\n",
    "...\n",
    "spec:",
    "kind: ",
    "*",
];

/// A place in a text, the token that replaces what stands there, and how many characters it replaces.
type Mutation = (prop::sample::Index, usize, usize);

fn mutated(mut text: String, mutations: &[Mutation]) -> String {
    for &(place, token, length) in mutations {
        let boundaries: Vec<_> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let first = place.index(boundaries.len());
        let (start, end) = (boundaries[first], boundaries[(first + length).min(boundaries.len() - 1)]);
        text.replace_range(start..end, TOKENS[token]);
    }
    text
}

fn wrong_value() -> impl Strategy<Value = serde_json::Value> {
    let nested = (0..90).fold(json!([]), |inner, _| json!([inner]));
    prop::sample::select(vec![
        json!(null),
        json!(true),
        json!(-1),
        json!(u64::MAX),
        json!(1e300),
        json!(""),
        json!("a".repeat(5000)),
        json!("\u{0}\u{1b}[2J\n"),
        json!("(((("),
        json!("99999999999999999999h"),
        json!([]),
        json!([null, [], {}, 1, "a"]),
        json!({}),
        json!({"": "", "*": "*", ":": null, "\n": {}}),
        serde_json::Value::Array(vec![json!({}); 1000]),
        nested,
    ])
}

/// Returns `value` in block style.
fn as_yaml(value: &serde_json::Value) -> String {
    let mut text = String::new();
    write_block(value, 0, &mut text);
    text
}

fn write_block(value: &serde_json::Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        serde_json::Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                write!(text, "\n{indent}{}: ", json!(name)).unwrap();
                write_block(value, depth + 1, text);
            }
        }
        serde_json::Value::Array(items) if !items.is_empty() => {
            for item in items {
                write!(text, "\n{indent}- ").unwrap();
                write_block(item, depth + 1, text);
            }
        }
        scalar => write!(text, "{scalar}").unwrap(),
    }
    if depth == 0 {
        text.push('\n');
    }
}

/// What is kept of a file is bounded by the loader and not by the file.
fn within_bounds(loaded: &Loaded) {
    assert!(loaded.diagnostics.len() <= 1001, "{} findings", loaded.diagnostics.len());
    let values: usize = loaded.resources.iter().map(|resource| count(&resource.document)).sum();
    // A malformed security object is served as a document of its own.
    assert!(values <= 1_000_000 + 20 * loaded.broken.len(), "{values} values");
}

fn count(node: &Node) -> usize {
    match &node.value {
        Value::Scalar { .. } => 1,
        Value::Sequence(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Mapping(entries) => 1 + entries.iter().map(|(_, node)| count(node)).sum::<usize>(),
    }
}

fn check(text: &str) {
    let loaded = read(text);
    within_bounds(&loaded);
    for finding in &loaded.diagnostics {
        let location = finding.location.as_ref().unwrap();
        assert!(location.line >= 1 && location.column >= 1);
        assert!(finding.to_string().len() < 4000, "{finding}");
        let _ = finding.render(Some(text));
    }
    // What was read is read again from what is served.
    for resource in loaded.resources {
        let served = load("served", &resource.document.to_json().to_string(), &Options::default());
        assert_eq!(served.resources.len(), 1, "{:?}", served.diagnostics);
        let alike = |a: &str, b: &str| a == b || a.starts_with('(') && b.starts_with('(');
        assert!(alike(&served.resources[0].key.name, &resource.key.name));
    }
}

fn accept(before: &Accepted, text: &str) -> Accepted {
    before.update(&[SourceFile { name: "mesh.yaml".into(), text: Ok(text.into()) }], &Options::default())
}

fn read(text: &str) -> Loaded {
    load("mesh.yaml", text, &Options::default())
}
