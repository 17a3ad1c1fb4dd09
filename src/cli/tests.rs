//! What is typed becomes what is meant.

use std::path::PathBuf;
use std::time::Duration;

use clap::CommandFactory as _;

use super::*;
use crate::cli::args::{
    AsgCommand, ClientCommand, ClusterOptions, DemoOptions, ExecutionCommand, Format, FullOptions, KeyCommand,
    RuleCommand, Scene, ServeOptions,
};

fn parsed(line: &str) -> Result<Command, clap::Error> {
    Arguments::try_parse_from(line.split_whitespace()).map(Command::from)
}

fn client(line: &str) -> ClientCommand {
    match parsed(line) {
        Ok(Command::Client(command, _)) => *command,
        other => panic!("`{line}` is {other:?}"),
    }
}

#[test]
fn the_commands_are_put_together_well() {
    Arguments::command().debug_assert();
}

const MANUAL: &str = "\
    petrel serve --data-dir d --listen 127.0.0.1:0 --config c.toml --packs a --packs b
    petrel validate
    petrel validate rules -o json
    petrel restore copy.db --data-dir d
    petrel demo
    petrel run core.local cmd=date -a
    petrel run core.local --json - timeout=5 --delay 10s
    petrel execution list --status failed --action core.local --steps -n 5
    petrel execution get 1
    petrel execution tail last
    petrel execution cancel 1
    petrel execution pause 1
    petrel execution resume 1
    petrel execution re-run 1 a=b --async
    petrel rule list --pack default
    petrel rule get default.r
    petrel rule enable default.r
    petrel rule disable default.r
    petrel rule test default.r 64a1f0c2d3e4f5a6b7c8d9e0
    petrel rule test default.r --payload -
    petrel trigger list
    petrel trigger get core.st2.webhook
    petrel trigger emit default.t {}
    petrel trigger-instance list --trigger core.st2.webhook
    petrel trigger-instance get 1
    petrel trigger-instance re-emit 1
    petrel action list
    petrel action get core.local
    petrel key list --prefix a
    petrel key get a -d
    petrel key set a b --ttl 1h --encrypt
    petrel key delete a
    petrel pack list
    petrel pack get core
    petrel asg list
    petrel asg get web
    petrel asg create web --min-nodes 1 --max-nodes 4 --config expand_delay=10m --node boot=1
    petrel asg delete web
    petrel asg expand web --by 2 --force
    petrel asg deflate web
    petrel asg add-node web
    petrel asg delete-node web web-001
    petrel asg explain web -n 3
    petrel asg suspend web deflate --for 2h --reason holidays
    petrel asg resume web deflate
    petrel inquiry list
    petrel inquiry get 1
    petrel inquiry respond 1 ok=true
    petrel signal approved --correlation web --payload {} --sender s --ttl 1d
    petrel workflow check
    petrel freeze maintenance --for 2h
    petrel thaw
    petrel user list
    petrel user create ann --role operator
    petrel user delete ann
    petrel apikey list
    petrel apikey create --user ann --metadata for=ci
    petrel apikey enable 1
    petrel apikey disable 1
    petrel apikey delete 1
    petrel backup /tmp/copy.db
    petrel status
    petrel whoami -o yaml --url http://a --api-key k";

#[test]
fn every_command_of_the_manual_is_understood() {
    for line in MANUAL.lines() {
        assert!(parsed(line).is_ok(), "{line}: {}", parsed(line).unwrap_err());
    }
}

#[test]
fn nonsense_is_a_usage_error() {
    let lines = [
        "petrel",
        "petrel fly",
        "petrel run",
        "petrel run a.b --delay 10",
        "petrel execution list --status done",
        "petrel rule test default.r",
        "petrel key set a b --ttl soon",
        "petrel serve --listen here",
        "petrel status -o xml",
    ];
    for line in lines {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        assert_eq!(parse(words), Err(ExitCode::from(USAGE)), "{line}");
    }
}

#[test]
fn options_may_stand_on_either_side_of_parameters() {
    let before = client("petrel run -a core.local cmd=date --delay 500ms");
    let after = client("petrel run core.local cmd=date --delay 500ms -a");
    assert_eq!(before, after);
    let ClientCommand::Run(arguments) = after else { panic!("not a run") };
    assert!(arguments.detach);
    assert_eq!(arguments.delay, Some(Duration::from_millis(500)));
    assert_eq!(arguments.parameters, ["cmd=date"]);
    let ClientCommand::Run(arguments) = client("petrel run core.local -- ls -la") else { panic!("not a run") };
    assert_eq!(arguments.parameters, ["ls", "-la"]);
}

#[test]
fn the_parts_of_a_command_land_where_they_belong() {
    let serve = ServeOptions {
        data_dir: Some("d".into()),
        listen: Some("127.0.0.1:0".parse().unwrap()),
        config: None,
        packs: vec!["a".into(), "b".into()],
        roles: vec![crate::config::Role::Api, crate::config::Role::Rules],
    };
    let line = "petrel serve --data-dir d --listen 127.0.0.1:0 --packs a --packs b --roles api,rules";
    assert_eq!(parsed(line).unwrap(), Command::Serve(serve));
    assert_eq!(parsed("petrel demo").unwrap(), Command::Demo(DemoOptions::default()));
    let scene = |line: &str| match parsed(line) {
        Ok(Command::Demo(demo)) => demo.scene,
        other => panic!("no demo: {other:?}"),
    };
    let cluster = ClusterOptions { store: Some("postgres://a/b".into()), bus: None };
    assert_eq!(scene("petrel demo --cluster --store postgres://a/b"), Scene::Cluster(cluster));
    let full = FullOptions { steady: Duration::from_mins(10), pictures: "p".into() };
    assert_eq!(scene("petrel demo --full --steady 10m --pictures p"), Scene::Full(full));
    assert!(parsed("petrel demo --steady 10m").is_err(), "the short story holds no load");
    let Ok(Command::Client(_, globals)) = parsed("petrel thaw -o json") else { panic!("not a client's") };
    assert_eq!((globals.format, globals.data_dir()), (Format::Json, PathBuf::from(".petrel").as_path()));
    assert!(matches!(client("petrel execution stop 1"), ClientCommand::Execution(ExecutionCommand::Cancel { .. })));
    assert!(matches!(client("petrel asg explain web"), ClientCommand::Asg(AsgCommand::Explain { limit: 20, .. })));
    assert!(matches!(client("petrel key get a"), ClientCommand::Key(KeyCommand::Get { decrypt: false, .. })));
    let test = client("petrel rule test a.b --payload x");
    assert!(matches!(test, ClientCommand::Rule(RuleCommand::Test { event: None, payload: Some(_), .. })));
}

#[test]
fn what_the_daemon_starts_of_itself_is_not_for_people() {
    let words = |line: &str| line.split_whitespace().map(OsString::from).collect::<Vec<_>>();
    assert_eq!(parse(words("petrel guard 1 2")), Ok(Command::Guard));
    let knobs = words("--name web-001");
    assert_eq!(parse(words("petrel node --name web-001")), Ok(Command::Node(knobs)));
    let help = Arguments::command().render_long_help().to_string();
    assert!(!help.contains("guard") && !help.contains("  node "), "{help}");
}
