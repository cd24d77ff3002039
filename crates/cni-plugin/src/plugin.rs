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
    call::{Attachment, Call, Command, Environment, Variables, missing_variables},
    config::Document,
    error::{Code, Error},
    result::AddResult,
    version::{SUPPORTED_VERSIONS, Version, texts},
};

/// More standard input than this is refused: no configuration is that large.
const MAX_INPUT: u64 = 16 * 1024 * 1024;

/// A CNI plugin. Verbs are called with everything checked; what they return is rendered in the right version.
pub trait Plugin {
    /// One line for people who call the program by hand. Where it is empty, such a call is an error.
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
    let about = plugin.about();
    if environment.get("CNI_COMMAND").is_none() && !about.is_empty() {
        let versions = texts(plugin.versions()).join(", ");
        let _ = writeln!(stderr, "{about}\nCNI protocol versions supported: {versions}");
        return ExitCode::SUCCESS;
    }
    // Until the configuration is read, errors are told in the newest version.
    let mut version = plugin.versions().last().copied().unwrap_or(Version::V1_1_0);
    match operate(plugin, environment, stdin, &mut version) {
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
    environment: &Environment,
    stdin: &mut dyn Read,
    version: &mut Version,
) -> Result<Option<Output>, Error> {
    let command = environment
        .get("CNI_COMMAND")
        .ok_or_else(|| missing_variables(&["CNI_COMMAND"]))?;
    let command = Command::parse(command)?;
    if command == Command::Version {
        let newest = plugin.versions().last().copied().unwrap_or(Version::V1_1_0);
        let answer = json!({"cniVersion": newest.to_string(), "supportedVersions": texts(plugin.versions())});
        return Ok(Some(Output::Compact(answer)));
    }
    let variables = Variables::check(command, environment)?;
    let document = Document::parse(read_input(stdin)?)?;
    // An answer in a version that nobody speaks helps nobody.
    if let Some(spoken) = spoken(document.version_text()?, plugin.versions()) {
        *version = spoken;
    }
    document.name()?;
    let cni_version = gate(command, &document, plugin.versions())?;
    let config = document.config(cni_version, command.unreadable_result())?;
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

/// The version that is spelled so, among those spoken: `1.0` is not `1.0.0`, as answers have to repeat it.
fn spoken(text: &str, supported: &[Version]) -> Option<Version> {
    supported
        .iter()
        .find(|version| version.to_string() == text)
        .copied()
}

/// Which verb may be used with which version of configuration.
fn gate(command: Command, document: &Document, supported: &[Version]) -> Result<Version, Error> {
    let config = document.version()?;
    let since = command.since();
    let name = command.name();
    let refused = |message: String| Error::new(Code::IncompatibleVersion, message);
    if config < since {
        let message = format!("config version {config} does not allow {name}: it came with {since}");
        return Err(refused(message));
    }
    spoken(document.version_text()?, supported).ok_or_else(|| {
        let details = format!(
            "config is {:?}, plugin supports {:?}",
            document.version_text().unwrap_or_default(),
            texts(supported)
        );
        refused("incompatible CNI versions".to_owned()).details(details)
    })
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
