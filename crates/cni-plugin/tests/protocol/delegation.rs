// SPDX-License-Identifier: Apache-2.0
//! Running another plugin: shell scripts that stand for well and badly behaved ones.

use std::{
    ffi::OsStr,
    fs,
    io::Write as _,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{PermissionsExt as _, symlink},
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use cni_plugin::{AddResult, Call, Code, Command, Delegate, Environment, Error, NetworkConfig};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::recorder::{self, Recorder};

/// Longer than any test takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// A limit that is meant to be met.
const SHORT: Duration = Duration::from_millis(300);

/// A folder with one plugin in it and what it left behind.
struct Stage {
    folder: TempDir,
    config: String,
}

impl Stage {
    /// A plugin that notes its verb, its input and its environment, and then runs `body`.
    fn new(body: &str) -> Self {
        let stage = Self {
            folder: TempDir::with_prefix(format!("delegate-{}-", std::process::id())).unwrap(),
            config: json!({"cniVersion": "1.0.0", "name": "net", "ipam": {"type": "script"}}).to_string(),
        };
        stage.install(&format!(
            "cd {folder}\necho $CNI_COMMAND >> verbs\necho $$ > pid\nenv > environment.$CNI_COMMAND\n{body}\n",
            folder = stage.folder.path().display()
        ));
        stage
    }

    fn install(&self, script: &str) {
        let path = self.plugin();
        fs::write(&path, format!("#!/bin/sh\n{script}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn plugin(&self) -> PathBuf {
        self.folder.path().join("script")
    }

    fn read(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn verbs(&self) -> Vec<String> {
        self.read("verbs").lines().map(str::to_owned).collect()
    }

    fn call(&self) -> Call {
        let path = std::env::var("PATH").unwrap();
        let variables = [
            ("PATH", path.as_str()),
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "abc"),
            ("CNI_ARGS", "IgnoreUnknown=1;A=b"),
            ("TRACEPARENT", "00-ab"),
        ];
        let environment: Environment = variables
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect();
        Call {
            command: Command::Add,
            config: NetworkConfig::parse(self.config.as_bytes()).unwrap(),
            path: vec![self.folder.path().to_owned()],
            environment,
        }
    }

    fn add_within(&self, limit: Duration) -> Result<AddResult, Error> {
        Delegate::find(&self.call(), "script", limit)?.add()
    }

    fn add(&self) -> Result<AddResult, Error> {
        self.add_within(PATIENCE)
    }

    fn run(&self, command: Command) -> Result<(), Error> {
        Delegate::find(&self.call(), "script", PATIENCE)?.run(command)
    }

    /// Whether the plugin's last process is neither running nor a zombie.
    fn reaped(&self) -> bool {
        !Path::new("/proc").join(self.read("pid").trim()).exists()
    }
}

/// Ends a process that a test's plugin leaves behind.
struct Left<'a>(&'a Stage);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        let left = fs::read_to_string(self.0.folder.path().join("left")).unwrap_or_default();
        for pid in left.lines().filter_map(|line| line.trim().parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

const PRINTS_ADDRESS: &str =
    r#"cat > input.$CNI_COMMAND; echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.1.2.3/24"}]}'"#;

#[test]
fn the_delegate_gets_the_same_input_and_environment() {
    let mut stage = Stage::new(PRINTS_ADDRESS);
    // Spacing, repeated keys and numbers stay as they are.
    stage.config =
        "{\"name\": \"net\",\n \"cniVersion\": \"1.0.0\", \"a\": 1.500, \"a\": 1e2, \"ipam\": {}}\n"
            .to_owned();
    let result = stage.add().unwrap();
    assert_eq!(result.ips[0].address.to_string(), "10.1.2.3/24");
    assert_eq!(stage.read("input.ADD"), stage.config);
    for (verb, command) in [
        ("DEL", Command::Del),
        ("CHECK", Command::Check),
        ("STATUS", Command::Status),
        ("GC", Command::Gc),
    ] {
        stage.run(command).unwrap();
        assert_eq!(stage.read(&format!("input.{verb}")), stage.config);
        let environment = stage.read(&format!("environment.{verb}"));
        for line in [
            &format!("CNI_COMMAND={verb}"),
            "CNI_CONTAINERID=abc",
            "CNI_ARGS=IgnoreUnknown=1;A=b",
            "TRACEPARENT=00-ab",
        ] {
            assert!(
                environment.lines().any(|found| found == line),
                "{line}: {environment}"
            );
        }
        // What this process has and the call has not, the plugin has not.
        assert!(!environment.contains("CARGO_MANIFEST_DIR"), "{environment}");
    }
    assert_eq!(stage.verbs(), ["ADD", "DEL", "CHECK", "STATUS", "GC"]);
    assert!(stage.reaped());
}

#[test]
fn variables_that_are_no_text_are_refused_by_name_and_inherited_as_they_are() {
    let stage = Stage::new("printf %s \"$ODD\" > odd");
    let bytes = b"a\xffb";
    let odd = || OsStr::from_bytes(bytes).to_owned();
    let mut call = stage.call();
    let variables = [
        ("PATH".into(), std::env::var_os("PATH").unwrap()),
        ("ODD".into(), odd()),
        ("CNI_COMMAND".into(), "DEL".into()),
        ("CNI_CONTAINERID".into(), odd()),
        ("CNI_IFNAME".into(), "eth0".into()),
        ("CNI_PATH".into(), "/nowhere".into()),
    ];
    call.environment = variables.into_iter().collect::<Environment>();
    Delegate::find(&call, "script", PATIENCE)
        .unwrap()
        .run(Command::Del)
        .unwrap();
    assert_eq!(fs::read(stage.folder.path().join("odd")).unwrap(), bytes);
    let message = recorder::call(&Recorder::default(), &call.environment, &stage.config).failed(4);
    assert!(message.contains("CNI_CONTAINERID"), "{message}");
}

#[test]
fn configuration_and_arguments_can_be_replaced() {
    let stage = Stage::new(PRINTS_ADDRESS);
    let call = stage.call();
    let config: Map<String, Value> = json!({"name": "other"}).as_object().unwrap().clone();
    let delegate = Delegate::find(&call, "script", PATIENCE)
        .unwrap()
        .config(config)
        .arguments("IP=10.0.0.1".to_owned());
    delegate.add().unwrap();
    assert_eq!(stage.read("input.ADD"), r#"{"name":"other"}"#);
    assert!(
        stage
            .read("environment.ADD")
            .lines()
            .any(|line| line == "CNI_ARGS=IP=10.0.0.1")
    );
}

#[test]
fn results_are_read_in_their_version_or_the_configurations() {
    for (config, printed, addresses) in [
        (
            "1.0.0",
            r#"{"cniVersion": "0.2.0", "ip4": {"ip": "10.1.2.3/24"}}"#,
            1,
        ),
        ("0.2.0", r#"{"ip4": {"ip": "10.1.2.3/24"}}"#, 1),
        (
            "0.2.0",
            r#"{"cniVersion": "1.0.0", "ips": [{"address": "10.1.2.3/24"}]}"#,
            1,
        ),
        (
            "0.4.0",
            r#"{"cniVersion": "", "ips": [{"version": "4", "address": "10.1.2.3/24"}]}"#,
            1,
        ),
        ("1.0.0", "{}", 0),
        ("1.0.0", "null", 0),
    ] {
        let mut stage = Stage::new(&format!("echo '{printed}'"));
        stage.config = json!({"cniVersion": config, "name": "net"}).to_string();
        assert_eq!(stage.add().unwrap().ips.len(), addresses, "{printed}");
        assert_eq!(stage.verbs(), ["ADD"]);
    }
}

#[test]
fn a_failed_add_is_followed_by_del_and_keeps_its_own_error() {
    let stage = Stage::new(
        r#"echo "{\"code\": 11, \"msg\": \"$CNI_COMMAND failed\", \"details\": \"disk\"}"; exit 1"#,
    );
    let error = stage.add().unwrap_err();
    assert_eq!(
        error,
        Error::new(Code::TryAgainLater, "ADD failed").details("disk")
    );
    assert_eq!(stage.verbs(), ["ADD", "DEL"]);
    // Other verbs are run once.
    let error = stage.run(Command::Check).unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (Code::TryAgainLater, "CHECK failed")
    );
    assert_eq!(stage.verbs(), ["ADD", "DEL", "CHECK"]);
    assert!(stage.reaped());
}

#[test]
fn a_result_that_cannot_be_read_is_a_failed_add() {
    for (body, part) in [
        ("echo 'all is well'", "all is well"),
        ("true", "not JSON"),
        ("echo 5", "5 is not an object"),
        (
            r#"echo '{"ips": [{"address": 5}]}'"#,
            "\"address\": 5 is not a string",
        ),
        (r"echo '{}{}'", "not JSON"),
        (r#"echo '{"cniVersion": "3.0.0"}'"#, "3.0.0"),
    ] {
        let stage = Stage::new(body);
        let error = stage.add().unwrap_err();
        assert!(
            error.to_string().contains(part) && error.message.contains("script"),
            "{error}"
        );
        assert_eq!(stage.verbs(), ["ADD", "DEL"], "{body}");
    }
}

#[test]
fn codes_of_the_delegate_are_kept() {
    for code in [1, 3, 7, 11, 50, 51, 100, 999, 70_000] {
        let stage = Stage::new(&format!(
            r#"echo '{{"cniVersion": "0.4.0", "code": {code}, "msg": "no"}}'; exit 3"#
        ));
        let error = stage.run(Command::Del).unwrap_err();
        assert_eq!(
            (u32::from(error.code), error.message.as_str()),
            (code, "no"),
            "unwrapped"
        );
    }
}

#[test]
fn silence_and_garbage_are_described() {
    for (body, parts) in [
        ("exit 3", &["without saying why", "exit status: 3"][..]),
        (
            "echo 'cannot open\nthe lock' >&2; exit 1",
            &["exit status: 1", "cannot open the lock"],
        ),
        ("kill -9 $$", &["signal: 9"]),
        ("echo 'panic: oh'; exit 2", &["exit status: 2", "panic: oh"]),
        ("echo '[]'; exit 1", &["cannot be read", "[]"]),
        ("echo '{}'; exit 1", &["cannot be read", "{}"]),
        (r#"echo '{"code": "x"}'; exit 1"#, &["cannot be read"]),
        (r"printf '\377\376'; exit 1", &["cannot be read", "\u{fffd}"]),
    ] {
        let stage = Stage::new(body);
        let error = stage.run(Command::Del).unwrap_err();
        assert_eq!(error.code, Code::Internal, "{body}");
        for part in parts.iter().chain(&["script"]) {
            assert!(error.to_string().contains(part), "{body}: {error}");
        }
    }
}

#[test]
fn a_missing_plugin_is_named_with_the_path() {
    let stage = Stage::new("true");
    let mut call = stage.call();
    call.path = vec!["/nowhere".into(), stage.folder.path().to_owned()];
    fs::create_dir(stage.folder.path().join("directory")).unwrap();
    for name in ["missing", "directory", ".", ".."] {
        let error = Delegate::find(&call, name, PATIENCE).unwrap_err();
        let folder = stage.folder.path().display();
        let expected = format!("failed to find plugin {name:?} in path [/nowhere {folder}]");
        assert_eq!(error.message, expected);
    }
    for name in ["", "a/b", "../script", "/bin/true"] {
        let error = Delegate::find(&call, name, PATIENCE).unwrap_err();
        assert!(error.message.contains("invalid plugin name"), "{error}");
    }
    // No folder at all, and the folder the runtime happens to work in, which is none.
    for path in [vec![], vec![PathBuf::new()]] {
        call.path = path;
        let error = Delegate::find(&call, "Cargo.toml", PATIENCE).unwrap_err();
        assert!(error.message.starts_with("failed to find plugin"), "{error}");
    }
}

#[test]
fn the_first_folder_wins_and_links_are_followed() {
    let (first, second) = (Stage::new("cat > /dev/null; echo null"), Stage::new("exit 1"));
    let links = TempDir::new().unwrap();
    symlink(first.plugin(), links.path().join("script")).unwrap();
    let mut call = first.call();
    call.path = vec![links.path().to_owned(), second.folder.path().to_owned()];
    Delegate::find(&call, "script", PATIENCE)
        .unwrap()
        .run(Command::Del)
        .unwrap();
    assert_eq!(first.verbs(), ["DEL"]);
}

#[test]
fn a_file_that_cannot_be_executed_is_found_and_is_an_io_error() {
    let stage = Stage::new("true");
    for (content, mode) in [(&b"#!/nowhere/shell\n"[..], 0o755), (b"", 0o644)] {
        fs::write(stage.plugin(), content).unwrap();
        fs::set_permissions(stage.plugin(), fs::Permissions::from_mode(mode)).unwrap();
        let error = stage.run(Command::Del).unwrap_err();
        assert_eq!(error.code, Code::Io, "{error}");
        assert!(
            error.message.contains(stage.plugin().to_str().unwrap()),
            "{error}"
        );
    }
}

#[test]
fn a_plugin_that_takes_too_long_is_ended_and_cleaned_up_after() {
    let stage = Stage::new("[ $CNI_COMMAND = DEL ] && exec touch cleaned; exec sleep 600");
    let started = Instant::now();
    let error = stage.add_within(SHORT).unwrap_err();
    assert_eq!(error.code, Code::TryAgainLater);
    assert!(
        error.message.contains("ADD") && error.message.contains("300ms"),
        "{error}"
    );
    assert!(started.elapsed() < PATIENCE);
    assert_eq!(stage.verbs(), ["ADD", "DEL"]);
    assert!(
        stage.folder.path().join("cleaned").exists(),
        "DEL has a limit of its own"
    );
    assert!(stage.reaped());
}

#[test]
fn a_plugin_that_closes_its_output_and_goes_on_is_ended() {
    let stage = Stage::new("exec sleep 600 >&- 2>&- <&-");
    let error = Delegate::find(&stage.call(), "script", SHORT)
        .unwrap()
        .run(Command::Del)
        .unwrap_err();
    assert_eq!(error.code, Code::TryAgainLater);
    assert!(stage.reaped());
}

/// A configuration larger than any pipe.
fn large_config() -> String {
    json!({"cniVersion": "1.0.0", "name": "net", "padding": "x".repeat(3_000_000)}).to_string()
}

#[test]
fn large_input_that_nobody_reads_does_not_block() {
    let mut stage = Stage::new("[ $CNI_COMMAND = ADD ] && echo '{}'; exit 0");
    stage.config = large_config();
    assert_eq!(stage.add().unwrap(), AddResult::default());
    // Neither does one that is held open until the limit.
    let mut stage = Stage::new("exec sleep 600");
    stage.config = large_config();
    let error = Delegate::find(&stage.call(), "script", SHORT)
        .unwrap()
        .run(Command::Check)
        .unwrap_err();
    assert_eq!(error.code, Code::TryAgainLater);
    assert!(stage.reaped());
}

#[test]
fn large_output_before_large_input_does_not_block() {
    let mut stage = Stage::new(
        "head -c 3000000 /dev/zero | tr '\\0' ' '; cat > input; echo '{\"ips\": [{\"address\": \"10.1.2.3/24\"}]}'",
    );
    stage.config = large_config();
    assert_eq!(stage.add().unwrap().ips.len(), 1);
    assert_eq!(stage.read("input"), stage.config);
}

#[test]
fn large_diagnostics_do_not_block() {
    let stage = Stage::new("head -c 200000 /dev/zero | tr '\\0' '\\n' >&2; echo last words >&2; exit 1");
    let error = stage.run(Command::Del).unwrap_err();
    assert!(error.message.ends_with("last words"), "{error}");
}

#[test]
fn endless_output_is_cut_off() {
    let stage = Stage::new("exec yes");
    let error = stage.run(Command::Del).unwrap_err();
    assert_eq!(error.code, Code::Decoding);
    assert!(error.message.contains("16 MiB"), "{error}");
    assert!(stage.reaped());
}

#[test]
fn a_daemon_that_the_plugin_leaves_behind_is_not_waited_for() {
    let stage = Stage::new("sleep 600 & echo $! > left\necho '{\"ips\": [{\"address\": \"10.1.2.3/24\"}]}'");
    let _left = Left(&stage);
    let started = Instant::now();
    assert_eq!(stage.add().unwrap().ips.len(), 1);
    assert!(started.elapsed() < PATIENCE / 2, "{:?}", started.elapsed());
    let daemon = Path::new("/proc").join(stage.read("left").trim());
    assert!(daemon.exists(), "it holds the pipes and goes on");
    assert!(stage.reaped());
}

#[test]
fn a_plugin_that_is_being_replaced_is_tried_again() {
    let stage = Stage::new("cat > /dev/null");
    let mut writer = fs::OpenOptions::new().append(true).open(stage.plugin()).unwrap();
    writer.write_all(b"# new\n").unwrap();
    let started = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || {
            // As long as an installer that writes in place: the kernel refuses to run a file that is open for writing.
            thread::sleep(SHORT);
            drop(writer);
        });
        stage.run(Command::Del).unwrap();
    });
    assert!(started.elapsed() >= SHORT);
    assert_eq!(stage.verbs(), ["DEL"]);
}

#[test]
fn a_plugin_that_stays_busy_is_an_error() {
    let stage = Stage::new("true");
    let _writer = fs::OpenOptions::new().append(true).open(stage.plugin()).unwrap();
    let error = stage.run(Command::Del).unwrap_err();
    assert_eq!(error.code, Code::Io);
    assert!(error.message.contains("busy"), "{error}");
}
