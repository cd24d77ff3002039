// SPDX-License-Identifier: Apache-2.0
//! From the environment and standard input to one verb of a plugin, and from its answer to standard output and an
//! exit code. Order of checks, version gates and texts are the reference library's, except that the namespace is
//! checked before anything is done and errors carry the configuration's version.

use std::{
    io::{Read, Write},
    panic,
    process::ExitCode,
};

use serde_json::{Value, json};

use crate::{
    call::{Attachment, Call, Command, Environment, Variables},
    config::NetworkConfig,
    error::{Code, Error},
    result::AddResult,
    version::{SUPPORTED_VERSIONS, Version, texts},
};

/// More standard input than this is refused: no configuration is that large.
const MAX_INPUT: u64 = 16 * 1024 * 1024;

/// A CNI plugin. Verbs are called with everything checked; what they return is rendered in the right version.
pub trait Plugin {
    /// One line for people who call the program by hand.
    fn about(&self) -> String;

    /// The versions spoken, oldest first.
    fn versions(&self) -> &[Version] {
        &SUPPORTED_VERSIONS
    }

    /// Makes an attachment.
    fn add(&self, call: &Call, attachment: &Attachment) -> Result<AddResult, Error>;

    /// Undoes an attachment; succeeds when nothing is left of it.
    fn del(&self, call: &Call, attachment: &Attachment) -> Result<(), Error>;

    /// Compares an attachment with what ADD made.
    fn check(&self, call: &Call, attachment: &Attachment) -> Result<(), Error>;

    /// Whether ADD could be served now.
    fn status(&self, call: &Call) -> Result<(), Error>;

    /// Removes what belongs to no valid attachment.
    fn gc(&self, call: &Call) -> Result<(), Error>;
}

/// Runs a plugin as a program.
pub fn run(plugin: &dyn Plugin) -> ExitCode {
    report_panics();
    let environment = Environment::of_process();
    dispatch(
        plugin,
        &environment,
        &mut std::io::stdin().lock(),
        &mut std::io::stdout(),
        &mut std::io::stderr(),
    )
}

/// Runs one call. Everything from outside is an argument.
pub fn dispatch(
    plugin: &dyn Plugin,
    environment: &Environment,
    stdin: &mut dyn Read,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> ExitCode {
    let Some(command) = environment.get("CNI_COMMAND") else {
        let versions = texts(plugin.versions()).join(", ");
        let _ = writeln!(
            stderr,
            "{}\nCNI protocol versions supported: {versions}",
            plugin.about()
        );
        return ExitCode::SUCCESS;
    };
    // Until the configuration is read, errors are told in the newest version.
    let mut version = plugin.versions().last().copied().unwrap_or(Version::V1_1_0);
    match operate(plugin, command, environment, stdin, &mut version) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(Output::Compact(answer))) => print(stdout, &format!("{answer}\n")),
        Ok(Some(Output::Pretty(answer))) => print(stdout, &format!("{answer:#}\n")),
        Err(error) => {
            print(stdout, &format!("{:#}\n", error.to_json(version)));
            ExitCode::FAILURE
        }
    }
}

enum Output {
    Compact(Value),
    Pretty(Value),
}

fn print(stdout: &mut dyn Write, text: &str) -> ExitCode {
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // The runtime is gone; it will ask for DEL.
        Err(_) => ExitCode::FAILURE,
    }
}

fn operate(
    plugin: &dyn Plugin,
    command: &str,
    environment: &Environment,
    stdin: &mut dyn Read,
    version: &mut Version,
) -> Result<Option<Output>, Error> {
    let command = Command::parse(command)?;
    if command == Command::Version {
        let newest = plugin.versions().last().copied().unwrap_or(Version::V1_1_0);
        let answer = json!({"cniVersion": newest.to_string(), "supportedVersions": texts(plugin.versions())});
        return Ok(Some(Output::Compact(answer)));
    }
    let variables = Variables::check(command, environment)?;
    let tree = NetworkConfig::parse_tree(&read_input(stdin)?)?;
    let cni_version = NetworkConfig::version_of(&tree)?;
    // An answer in a version that nobody speaks helps nobody.
    *version = if plugin.versions().contains(&cni_version) {
        cni_version
    } else {
        *version
    };
    NetworkConfig::name_of(&tree)?;
    gate(command, cni_version, plugin.versions())?;
    let config = NetworkConfig::from_tree(tree, cni_version)?;
    variables.refuse_own_namespace(environment)?;

    let Variables { attachment, path, .. } = variables;
    let call = Call {
        command,
        config,
        path,
        environment: environment.clone(),
    };
    match (command, &attachment) {
        (Command::Add, Some(attachment)) => {
            let answer = plugin.add(&call, attachment)?.to_json(cni_version)?;
            return Ok(Some(Output::Pretty(answer)));
        }
        (Command::Del, Some(attachment)) => plugin.del(&call, attachment)?,
        (Command::Check, Some(attachment)) => plugin.check(&call, attachment)?,
        (Command::Gc, _) => plugin.gc(&call)?,
        (Command::Status, _) => plugin.status(&call)?,
        (Command::Add | Command::Del | Command::Check | Command::Version, _) => {
            // `Variables::check` gives these verbs an attachment, and VERSION was answered above.
            return Err(Error::new(
                Code::Internal,
                format!("{} came without its attachment", command.name()),
            ));
        }
    }
    Ok(None)
}

fn read_input(stdin: &mut dyn Read) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    stdin
        .take(MAX_INPUT + 1)
        .read_to_end(&mut text)
        .map_err(|error| {
            Error::new(
                Code::Io,
                format!("cannot read the network configuration from stdin: {error}"),
            )
        })?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_INPUT {
        return Err(Error::new(
            Code::Io,
            "the network configuration on stdin is larger than 16 MiB",
        ));
    }
    Ok(text)
}

/// Which verb may be used with which version of configuration.
fn gate(command: Command, config: Version, supported: &[Version]) -> Result<(), Error> {
    let since = match command {
        Command::Check => Version::V0_4_0,
        Command::Gc | Command::Status => Version::V1_1_0,
        Command::Add | Command::Del | Command::Version => Version::V0_1_0,
    };
    if config < since {
        let message = format!(
            "config version {config} does not allow {}: it came with {since}",
            command.name()
        );
        return Err(Error::new(Code::IncompatibleVersion, message));
    }
    if supported.contains(&config) {
        return Ok(());
    }
    let details = format!(
        "config is {config:?}, plugin supports {:?}",
        texts(supported),
        config = config.to_string()
    );
    Err(Error::new(Code::IncompatibleVersion, "incompatible CNI versions").details(details))
}

/// A panic is a defect, but the runtime still has to be told in its own language: release programs abort.
fn report_panics() {
    panic::set_hook(Box::new(|panic| {
        let message = format!("the plugin failed unexpectedly: {panic}");
        let error = Error::new(Code::Internal, message.replace('\n', " "));
        let _ = writeln!(std::io::stdout(), "{:#}", error.to_json(Version::V1_1_0));
        let _ = writeln!(std::io::stderr(), "{panic}");
        std::process::exit(1);
    }));
}
