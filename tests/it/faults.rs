//! A host with faults that can be begun and ended: a library that stands before the system's (tests/fixtures/faults.c).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{daemon::Daemon, rig::Rig};

/// See the module's documentation.
pub(crate) struct Faults {
    library: PathBuf,
    asked: PathBuf,
}

impl Faults {
    /// Starts the daemon anew, on such a host.
    pub(crate) async fn under(rig: &mut Rig) -> Faults {
        let faults = Faults { library: rig.path("faults.so"), asked: rig.path("faults") };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/faults.c");
        let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&faults.library, &source]).status();
        assert!(compiled.unwrap().success());
        fs::create_dir(&faults.asked).unwrap();
        rig.stop().await;
        faults.restart(rig).await;
        faults
    }

    /// Starts it again after it was ended.
    pub(crate) async fn restart(&self, rig: &mut Rig) {
        rig.daemon = Some(Daemon::start_in(&rig.path("config.toml"), &self.environment()).await);
    }

    /// Where the faults are.
    pub(crate) fn environment(&self) -> [(&str, &str); 2] {
        [("LD_PRELOAD", &self.library), ("FAULTS", &self.asked)].map(|(name, path)| (name, path.to_str().unwrap()))
    }

    pub(crate) fn begin(&self, fault: &str, how: &str) {
        // At once, and not by half.
        fs::write(self.asked.join("new"), how).unwrap();
        fs::rename(self.asked.join("new"), self.asked.join(fault)).unwrap();
    }

    pub(crate) fn end(&self, fault: &str) {
        fs::remove_file(self.asked.join(fault)).unwrap();
    }
}
