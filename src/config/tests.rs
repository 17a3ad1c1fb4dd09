use super::*;

use std::time::Duration;

use crate::auth::WebhookAuth;
use crate::secrets::SecretText;

fn parse_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::parse(Path::new("petrel.toml"), text, &environment)
}

fn parse(text: &str) -> Config {
    parse_with(text, &[]).unwrap()
}

fn complaint(text: &str) -> String {
    parse_with(text, &[]).unwrap_err().to_string()
}

#[test]
fn an_empty_file_gives_the_documented_defaults() {
    let config = parse("");
    assert_eq!(config.data_dir, Path::new("./.petrel"));
    assert_eq!(config.listen.to_string(), "127.0.0.1:9101");
    assert_eq!((config.limits.body_bytes, config.limits.json_depth), (1_048_576, 64));
    assert_eq!((config.workers.max_parked, config.workers.park), (64, Duration::from_secs(5)));
    assert_eq!(config.workers.slots, 60);
    assert_eq!(config.retention.instances, Duration::from_hours(7 * 24));
    assert_eq!(config.server.shutdown_grace, Duration::from_secs(10));
    assert_eq!(config.retention.audit, Duration::from_hours(365 * 24));
    assert_eq!(config.timers.timezone, "UTC");
    assert_eq!(config.webhooks.auth_of("anything"), &WebhookAuth::ApiKey);
    assert_eq!(config.warnings(), Vec::<String>::new(), "the defaults need no warning");
}

#[test]
fn a_missing_file_is_fine_unless_it_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("site.toml");
    let refusal = Config::load(Some(&path), &Environment::new()).unwrap_err();
    assert!(refusal.to_string().contains("site.toml"), "{refusal}");
    std::fs::write(&path, "listen = 'localhost:0'").unwrap();
    assert_eq!(Config::load(Some(&path), &Environment::new()).unwrap().listen.to_string(), "127.0.0.1:0");
}

#[test]
fn every_section_is_read() {
    let config = parse(
        r#"
        data_dir = "/var/lib/petrel"
        listen = "[::1]:9200"
        packs = ["packs", "/srv/packs"]
        limits = { body_bytes = 1_000, rate_per_second = 5 }
        workers = { slots = 3, park = 0 }
        retention = { executions = "90d", max_database_bytes = 10_000_000_000 }
        timers = { misfire = "skip", timezone = "Europe/Berlin" }
        log = { format = "json", level = "info,petrel::rules=debug" }

        [listeners.newrelic]
        address = "0.0.0.0:10001"
        auth = { kind = "shared_token", header = "X-Token", token = "t" }

        [webhooks."/github/push/"]
        auth = { kind = "hmac", scheme = "github", secret_key = "github_secret" }
        "#,
    );
    assert_eq!(config.packs, [Path::new("packs"), Path::new("/srv/packs")]);
    assert_eq!((config.limits.body_bytes, config.limits.rate_per_second), (1000, 5));
    assert_eq!((config.workers.slots, config.workers.park), (3, Duration::ZERO));
    assert_eq!(config.retention.max_database_bytes, Some(10_000_000_000));
    assert_eq!(config.timers.misfire, MisfirePolicy::Skip);
    assert_eq!(config.log.format, LogFormat::Json);
    let newrelic = &config.listeners["newrelic"];
    assert_eq!(newrelic.address.unwrap().port(), 10001);
    assert!(matches!(newrelic.auth, Some(WebhookAuth::SharedToken { .. })) && newrelic.enabled);
    assert!(matches!(config.webhooks.auth_of("github/push"), WebhookAuth::Hmac(_)));
}

#[test]
fn without_a_url_there_is_no_broker_and_with_one_it_is_not_shown() {
    assert_eq!(parse("").bus.url, None);
    let secret = "amqps://petrel:hunter2@mq.example:5671/%2f";
    let config = parse_with("[bus]\nprefetch = 10\nqueue = 'site-a'\n", &[("PETREL__BUS__URL", secret)]).unwrap();
    assert_eq!(config.bus.url.as_ref().map(SecretText::expose), Some(secret));
    assert_eq!((config.bus.prefetch, config.bus.queue.as_str()), (10, "site-a"));
    assert_eq!(config.bus.fresh_queue_grace, Duration::from_secs(15));
    assert!(!format!("{config:?}").contains("hunter2"));
    for (text, expected) in [
        ("[bus]\nurl = 'redis://petrel:hunter2@mq'", "bus.url: write amqp://USER:PASSWORD@HOST:5672/%2f"),
        ("[bus]\nqueue = 'a b'", "bus.queue: write letters, digits, `.`, `-` and `_`"),
        ("[bus]\nprefetch = 0", "bus.prefetch: write a number greater than 0"),
        ("[bus]\nurl = 3", "bus.url: write a text in quotes"),
    ] {
        let said = complaint(text);
        assert!(said.contains(expected) && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn variables_override_the_file_key_by_key() {
    let file = "packs = ['a']\n[limits]\nbody_bytes = 10\njson_depth = 5\n[listeners.newrelic]\nauth = 'open'\n";
    let variables = [
        ("PETREL__LIMITS__BODY_BYTES", "20"),
        ("PETREL__PACKS", "b, c"),
        ("PETREL__LISTENERS__NEWRELIC__ENABLED", "false"),
        ("PETREL__LISTENERS__NEWRELIC__AUTH__KIND", "shared_token"),
        ("PETREL__LISTENERS__NEWRELIC__AUTH__QUERY", "key"),
        ("PETREL__LISTENERS__NEWRELIC__AUTH__TOKEN", "t0ken"),
        ("PETREL__WORKERS__PARK", "0"),
        ("PETREL_URL", "is for clients"),
        ("PATH", "/bin"),
    ];
    let config = parse_with(file, &variables).unwrap();
    assert_eq!((config.limits.body_bytes, config.limits.json_depth), (20, 5));
    assert_eq!(config.packs, [Path::new("b"), Path::new("c")]);
    assert!(!config.listeners["newrelic"].enabled);
    assert!(matches!(config.listeners["newrelic"].auth, Some(WebhookAuth::SharedToken { .. })));
    assert_eq!(config.workers.park, Duration::ZERO);
}

#[test]
fn an_unknown_key_is_refused_with_the_one_that_was_meant() {
    let cases = [
        ("[limits]\nbody_byte = 1", "petrel.toml:2:1: limits.body_byte: unknown key; did you mean `body_bytes`?"),
        ("lisen = 'x'", "petrel.toml:1:1: lisen: unknown key; did you mean `listen`?"),
        ("[server]\nworkers = 3", "petrel.toml:2:1: server.workers: unknown key; there are shutdown_grace"),
        (
            "[listeners.nr]\nport = 3",
            "petrel.toml:2:1: listeners.nr.port: unknown key; there are address, auth, enabled",
        ),
        ("[webhooks.x]\nauth = 'open'\nreply = 1", "petrel.toml:3:1: webhooks.x.reply: unknown key; there are auth"),
    ];
    for (text, expected) in cases {
        assert_eq!(complaint(text), expected);
    }
    let refusal = parse_with("", &[("PETREL__LIMITS__JSON_DEPHT", "3")]).unwrap_err().to_string();
    assert_eq!(refusal, "PETREL__LIMITS__JSON_DEPHT: limits.json_depht: unknown key; did you mean `json_depth`?");
}

#[test]
fn what_is_wrong_is_named_with_its_place_and_what_to_write() {
    let cases = [
        ("listen = '9101'", "petrel.toml:1:1: listen: `9101` is not an address and a port; write \"127.0.0.1:9101\""),
        ("limits = 3", "petrel.toml:1:1: limits: write a table, not a whole number"),
        ("[limits]\n  body_bytes = '1MiB'", "petrel.toml:2:3: limits.body_bytes: write a whole number"),
        ("[limits]\nbody_bytes = -1", "limits.body_bytes: write a whole number that is not negative"),
        ("[limits]\njson_depth = 0", "limits.json_depth: write a number greater than 0"),
        ("[workers]\npark = 30", "workers.park: write a duration in quotes with its unit"),
        ("[retention]\naudit = '0s'", "retention.audit: write a duration longer than nothing"),
        ("[retention]\noutput = '7 days'", "retention.output: `7 days` is not a duration"),
        ("[timers]\nmisfire = 'never'", "write once, skip or all"),
        ("[timers]\ntimezone = 'Mars/Base'", "`Mars/Base` is not a time zone"),
        ("[log]\nlevel = 'a=b=c'", "is not a log level"),
        ("[log]\nformat = 'xml'", "write text or json"),
        ("packs = 'a'", "packs: write a list, as [\"a\", \"b\"], not a text"),
        ("[listeners.nr]\nenabled = 'yes'", "listeners.nr.enabled: write true or false"),
        ("[webhooks.github]", "webhooks.github.auth: say how this webhook knows its senders"),
        ("[webhooks.github]\nauth = 'opne'", "petrel.toml:2:1: webhooks.github.auth: unknown variant `opne`"),
        ("a = = 1", "petrel.toml:1:5: "),
    ];
    for (text, expected) in cases {
        let said = complaint(text);
        assert!(said.contains(expected), "{text}: {said}");
    }
}

#[test]
fn all_mistakes_are_shown_at_once() {
    let refusal = parse_with("lisen = 1\n[log]\nformat = 'xml'\n", &[("PETREL__GOVERNOR__TICK", "often")]).unwrap_err();
    assert_eq!(refusal.0.len(), 3, "{refusal}");
}

#[test]
fn g10_what_is_open_or_reachable_from_outside_is_warned_of() {
    let config = parse(
        "listen = '0.0.0.0:9101'\n[listeners.nr]\nauth = 'open'\n[listeners.off]\nauth = 'open'\nenabled = false\n\
         [webhooks]\ndefault_auth = 'open'\n[webhooks.git]\nauth = 'open'\n[webhooks.safe]\nauth = 'api_key'\n",
    );
    let warnings = config.warnings();
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    for named in ["0.0.0.0:9101", "every webhook", "webhook `git`", "listener `nr`"] {
        assert!(warnings.iter().any(|warning| warning.contains(named)), "{named}");
    }
}

#[test]
fn who_acts_for_others_and_as_whom_actions_run_is_read_and_groups_need_a_user() {
    let config = parse(
        "[auth]\nact_as = ['hubot']\n[runners]\ndir = '/var/cache/petrel'\n\
         [runners.local]\nuser = 'stanley'\ngroup = 'www'\nsupplementary_groups = []\n",
    );
    assert_eq!(config.auth.act_as, ["hubot"]);
    let local = &config.runners.local;
    assert_eq!((local.user.as_deref(), local.group.as_deref()), (Some("stanley"), Some("www")));
    assert_eq!(local.supplementary_groups.as_deref(), Some([].as_slice()), "none is not the same as not said");
    assert_eq!((parse("").auth, parse("").runners), (Auth::default(), Runners::default()));
    let said = complaint("[runners.local]\ngroup = 'www'\n");
    assert!(said.contains("runners.local.group: groups need `user`"), "{said}");
}
