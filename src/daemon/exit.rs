//! Exit codes, after sysexits.h. The unit file keeps systemd from restarting after those that a restart can't help.

/// A code and what it means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Code(pub u8);

/// The command line is wrong.
pub const USAGE: Code = Code(64);
/// A service that is needed is not there: no daemon behind the socket, or another one already is.
pub const UNAVAILABLE: Code = Code(69);
/// Something that should not happen did.
pub const SOFTWARE: Code = Code(70);
/// The store can't be read or written.
pub const IO: Code = Code(74);
/// Not permitted.
pub const NO_PERMISSION: Code = Code(77);
/// The configuration is wrong.
pub const CONFIG: Code = Code(78);

impl From<Code> for std::process::ExitCode {
    fn from(code: Code) -> Self {
        code.0.into()
    }
}
