// SPDX-License-Identifier: Apache-2.0
//! The emulator: what it needs, how it is called, how many run at once.

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail};

use super::exchange::Exchange;
use super::initramfs;
use super::stock_kernel::StockKernel;
use crate::go_programs::target_folder;
use crate::peers::Peer;
use crate::process::Running;
use crate::{name, peers};

/// The emulator of this architecture's machines.
const QEMU: Peer = Peer::Program("qemu-system-x86_64", "qemu-system-x86");
/// Ends a process with the one that started it.
const SETPRIV: &str = "setpriv";
/// Processors of a guest, so that races show.
const PROCESSORS: usize = 2;
/// Memory of a guest, in MiB; used as far as it is touched.
const MEMORY: &str = "1024";
/// The kernel's command line. Emulation is not fooled by speculation, and the guest shows what went wrong and ends.
const APPEND: &str = "console=ttyS0 quiet panic=-1 mitigations=off nokaslr random.trust_cpu=on";

/// What a guest is made of.
#[derive(Debug)]
pub(super) struct Parts {
    kernel: StockKernel,
}

impl Parts {
    /// All parts; the kernel is fetched if there is none yet.
    pub(super) fn find() -> Result<Self> {
        if !cfg!(target_arch = "x86_64") {
            bail!("no virtual machine with a stock kernel on this architecture, only on x86-64");
        }
        let missing: Vec<String> = [QEMU, Peer::StaticBusybox]
            .iter()
            .filter_map(Peer::missing)
            .collect();
        if !missing.is_empty() {
            bail!("no virtual machine with a stock kernel: {}", missing.join("; "));
        }
        let kernel = StockKernel::find().context("no stock kernel for a virtual machine")?;
        Ok(Self { kernel })
    }

    /// The kernel.
    pub(super) fn kernel(&self) -> &StockKernel {
        &self.kernel
    }

    /// Starts a guest. It ends with the calling thread or with the returned value, whichever goes first.
    pub(super) fn boot(&self, exchange: &Exchange) -> Result<Running> {
        fs::write(exchange.initramfs(), initramfs::build(&self.kernel)?)?;
        let mut command = match peers::find_program(SETPRIV) {
            Some(program) => {
                let mut command = Command::new(program);
                command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
                command
            }
            None => Command::new("qemu-system-x86_64"),
        };
        // No device but these, and no network card. KVM is left alone: where nested, a guest on it may hang.
        command
            .args(["-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"])
            .args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"])
            .args(["-m", MEMORY, "-smp", &PROCESSORS.to_string()])
            .arg("-kernel")
            .arg(self.kernel.image())
            .arg("-initrd")
            .arg(exchange.initramfs())
            .args(["-append", APPEND])
            .arg("-serial")
            .arg(option("file:", &exchange.console()))
            .args([
                "-fsdev",
                "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap",
            ])
            .args(["-device", "virtio-9p-pci,fsdev=root,mount_tag=root"])
            // Mapped: a device node made in there is a plain file here.
            .arg("-fsdev")
            .arg(option(
                "local,id=exchange,security_model=mapped-file,path=",
                &exchange.shared(),
            ))
            .args(["-device", "virtio-9p-pci,fsdev=exchange,mount_tag=exchange"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(exchange.complaints())?);
        let _permit = name::permit();
        let child = command.spawn().context("start qemu-system-x86_64")?;
        Ok(Running::of(child, "qemu-system-x86_64"))
    }
}

/// An option's value with a path at its end, in which a comma is written twice.
fn option(start: &str, path: &Path) -> String {
    format!("{start}{}", path.to_string_lossy().replace(',', ",,"))
}

/// Leave to run a guest, given back when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _lock: File,
}

impl Turn {
    /// Waits for one: as many guests run at once on this machine as have processors of their own.
    pub(super) fn wait() -> Result<Self> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let folder = target_folder().join("vm");
        fs::create_dir_all(&folder)?;
        let turns = (processors / PROCESSORS).max(1);
        let mut locks = (0..turns)
            .map(|number| File::create(folder.join(format!("turn-{number}"))))
            .collect::<Result<Vec<_>, _>>()?;
        for (number, lock) in locks.iter().enumerate() {
            match lock.try_lock() {
                Ok(()) => {
                    return Ok(Self {
                        _lock: locks.swap_remove(number),
                    });
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
        }
        let number = usize::try_from(std::process::id()).unwrap_or(0) % turns;
        let lock = locks.swap_remove(number);
        lock.lock()?;
        Ok(Self { _lock: lock })
    }
}
