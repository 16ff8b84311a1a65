//! The whole terminal, for as long as a live screen is shown: keys one by one, a page of its own, and everything given back at
//! the end, however that comes about.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::sync::OnceLock;
use std::thread;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

/// Another page, without a cursor; what is too long for a line is cut off.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &[u8] = b"\x1b[?7h\x1b[?25h\x1b[?1049l";
/// Behind each line what was there before goes; below the last one too.
const LINE_END: &str = "\x1b[K\r\n";
const HOME: &str = "\x1b[H";
const REST: &str = "\x1b[K\x1b[J";

/// As the terminal was before.
static BEFORE: OnceLock<Termios> = OnceLock::new();

/// The terminal, taken. Dropping it gives it back.
pub(super) struct Terminal {
    /// Keys as bytes. Closed when nobody can press any more.
    pub(super) keys: mpsc::UnboundedReceiver<u8>,
}

/// A screen can be shown.
pub(super) fn is_there() -> bool {
    io::stdout().is_terminal() && io::stdin().is_terminal()
}

impl Terminal {
    /// Takes it.
    pub(super) fn take() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut ours = before.clone();
        // Keys at once and unseen. ^C and ^Z are keys as well: whoever stops in the middle leaves a terminal in ruins.
        ours.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        if BEFORE.set(before).is_ok() {
            // A panic ends the process and drops nothing.
            let say = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                give_back();
                say(panic);
            }));
        }
        let (pressed, keys) = mpsc::unbounded_channel();
        // From here on it is given back, also where the rest fails.
        let taken = Self { keys };
        tcsetattr(io::stdin(), OptionalActions::Now, &ours)?;
        io::stdout().write_all(ENTER)?;
        // Reading blocks, and ends with the process or with the terminal.
        let read = move || {
            let mut bytes = [0; 64];
            while let Ok(read @ 1..) = io::stdin().read(&mut bytes) {
                if bytes[..read].iter().any(|byte| pressed.send(*byte).is_err()) {
                    break;
                }
            }
        };
        thread::Builder::new().name("keys".to_owned()).spawn(read)?;
        Ok(taken)
    }

    /// How many lines and columns it has now.
    pub(super) fn size(&self) -> io::Result<(usize, u16)> {
        let size = tcgetwinsize(io::stdout())?;
        Ok((size.ws_row.into(), size.ws_col))
    }

    /// Shows this in place of what was there, without a flicker. What is too much for the terminal is left out below.
    pub(super) fn show(&self, screen: &str) -> io::Result<()> {
        let (rows, _) = self.size()?;
        let lines: Vec<_> = screen.lines().take(rows.max(1)).collect();
        let frame = format!("{HOME}{}{REST}", lines.join(LINE_END));
        let mut out = io::stdout().lock();
        out.write_all(frame.as_bytes())?;
        out.flush()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    // If it is gone there is nothing to give back.
    if let Some(before) = BEFORE.get() {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
    }
    let mut out = io::stdout();
    let _ = out.write_all(LEAVE).and_then(|()| out.flush());
}
