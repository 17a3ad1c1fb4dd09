//! What is tried: each target by the entry point that the daemon uses.

use std::fs;
use std::path::Path;

use petrel::chat::format::Format;
use petrel::packs::publication::wire::WirePublication;
use petrel::packs::publication::{Publication, shelf::Shelf};
use petrel::sensors::body::{BodyLimits, parse_body};
use petrel::sensors::mapping::{Mapper, WebhookRequest};
use petrel::templates::{CompiledValue, Context};
use serde_json::{Value, json};

use crate::content::{check_mutated_site, read_corpus};
use crate::grammar::{json_value, template};
use crate::mutation::mutate;
use crate::random::Random;

/// Runs one case.
type RunCase = Box<dyn FnMut(&mut Random)>;

/// One entry point.
#[derive(Debug)]
pub struct Target {
    pub name: &'static str,
    /// So many take about twelve seconds in a debug build.
    pub cases: u64,
    pub prepare: fn() -> RunCase,
}

/// All of them.
pub const TARGETS: [Target; 5] = [
    Target { name: "templates", cases: 3_000, prepare: templates },
    Target { name: "content", cases: 3_000, prepare: content },
    Target { name: "bodies", cases: 100_000, prepare: bodies },
    Target { name: "commands", cases: 6_000, prepare: commands },
    Target { name: "archives", cases: 40_000, prepare: archives },
];

fn templates() -> RunCase {
    let payload = json!({"trigger": {"body": {"x": "web", "list": [1, 2, 3]}}});
    let context = Context::new(&payload, None);
    Box::new(move |random| {
        let mut source = template(random);
        if random.once_in(4) {
            source = mutate(&source, &["{{ trigger.body.x }}", "{% raw %}"], random);
        }
        if let Ok(compiled) = CompiledValue::compile(&Value::String(source)) {
            // Any answer is right but a crash.
            drop(compiled.render(&context));
        }
    })
}

fn content() -> RunCase {
    let corpus = read_corpus();
    let folder = tempfile::tempdir().unwrap();
    Box::new(move |random| check_mutated_site(folder.path(), &corpus, random))
}

const TYPES: [Option<&str>; 6] = [
    None,
    Some("application/json"),
    Some("application/x-www-form-urlencoded"),
    Some("text/plain"),
    Some("application/json; charset=\u{fffd}"),
    Some("multipart/form-data"),
];

fn bodies() -> RunCase {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scripts = ["packs/newrelic/sensors/newrelic_hook.rhai", "packs/prometheus/sensors/alertmanager.rhai"];
    let mappers = scripts.map(|file| Mapper::compile(&fs::read_to_string(root.join(file)).unwrap(), file).unwrap());
    let recorded: Vec<String> = fs::read_dir(root.join("tests/webhooks"))
        .unwrap()
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .flat_map(|text| serde_json::from_str::<Vec<Value>>(&text).unwrap())
        .filter_map(|case| Some(case.get("json")?.to_string()))
        .collect();
    Box::new(move |random| {
        let others: Vec<&str> = recorded.iter().map(String::as_str).collect();
        let body = if random.once_in(3) { json_value(random, 6).to_string() } else { random.pick(&others).to_owned() };
        let bytes = mutate(&body, &others, random).into_bytes();
        let content_type = TYPES[random.below(TYPES.len())];
        if let Ok(body) = parse_body(content_type, &bytes, BodyLimits::default()) {
            let request = request_with(body, content_type);
            drop(mappers[random.below(mappers.len())].map(&request, &json!({})));
        }
    })
}

fn request_with(body: Value, content_type: Option<&str>) -> WebhookRequest {
    WebhookRequest {
        method: "POST".to_owned(),
        path: "hook".to_owned(),
        headers: [("x-request".to_owned(), "1".to_owned())].into(),
        query: [("q".to_owned(), "\u{1b}".to_owned())].into(),
        body,
        content_type: content_type.map(str::to_owned),
    }
}

const FORMATS: [&str; 6] = [
    "run {{ cmd }} on {{ host=web }}",
    "asg (expand|deflate)( by)? {{ count=1 }}",
    "{{ a }} {{ b }} {{ c }} {{ d }}",
    "(a+)+ {{ x }}",
    "deploy {{version}} to {{environment=\"staging\"}} ?(now)?",
    "\\s*(please)? {{ what={} }}",
];

fn commands() -> RunCase {
    Box::new(|random| {
        let source = mutate(random.pick(&FORMATS), &FORMATS, random);
        let words = [
            "run",
            "asg expand",
            "a",
            "\"b c\"",
            "k=v",
            "{\"x\": 1}",
            "\u{3000}",
            "'",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ];
        let command: Vec<&str> = (0..random.repetitions(40)).map(|_| random.pick(&words)).collect();
        let command = mutate(&command.join(" "), &FORMATS, random);
        if let Ok(format) = Format::compile(&source) {
            drop(format.read(&command));
        }
    })
}

const PATHS: [&str; 8] = [
    "rules/a.yaml",
    "packs/p/actions/run.sh",
    "../../etc/passwd",
    "/etc/passwd",
    "rules/../../x",
    "packs/p/./a",
    "rules/a.yaml/b",
    "C:\\x",
];

fn archives() -> RunCase {
    Box::new(|random| {
        let files: Vec<Value> = (0..=random.below(6))
            .map(|_| {
                let path = if random.once_in(2) {
                    random.pick(&PATHS).to_owned()
                } else {
                    mutate(random.pick(&PATHS), &PATHS, random)
                };
                json!({"path": path, "content_base64": "eA==", "executable": random.once_in(2)})
            })
            .collect();
        let wire: WirePublication = serde_json::from_value(json!({"files": files})).unwrap();
        let Ok(publication) = Publication::try_from(wire) else { return };
        let around = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(around.path().join("shelf"));
        // Names that the file system does not take are an error of the system, not a way out of the folder.
        drop(shelf.put(1, &publication));
        let outside: Vec<_> = fs::read_dir(around.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(outside, ["shelf"], "a file was written beside the shelf by {files:?}");
        let read = Publication::from_bytes(&publication.to_bytes()).unwrap();
        assert_eq!(read, publication, "what was published is read back");
    })
}
