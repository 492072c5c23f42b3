//! A terminal of any size for a program, and what the program writes to it.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    process::{Child, Command, ExitStatus},
    sync::{Arc, Mutex},
    thread,
};

use rustix::{
    process::{Pid, Signal, ioctl_tiocsctty, kill_process, setsid},
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    stdio::stdin,
    termios::{Termios, Winsize, tcgetattr, tcsetwinsize},
};

use super::wait_for;

/// A program on a terminal of its own; killed with the value.
pub struct Terminal {
    child: Child,
    keyboard: File,
    /// The program's end, kept open so that the settings outlive the program.
    line: OwnedFd,
    written: Arc<Mutex<Vec<u8>>>,
    before: Termios,
}

impl Terminal {
    pub fn run(command: &mut Command, columns: u16, rows: u16) -> Terminal {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("there is /dev/ptmx");
        grantpt(&master).expect("the terminal can be had");
        unlockpt(&master).expect("the terminal can be had");
        let line = ioctl_tiocgptpeer(&master, flags).expect("the terminal can be opened");
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&line, size).expect("a terminal has a size");
        let before = tcgetattr(&line).expect("a terminal has settings");
        let end = || line.try_clone().expect("a descriptor is left");
        command
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .env("TERM", "xterm-256color")
            .env("LC_ALL", "C.UTF-8");
        let act = || {
            setsid()?;
            ioctl_tiocsctty(stdin())?;
            Ok(())
        };
        // SAFETY: between fork and exec it only makes two system calls.
        unsafe { command.pre_exec(act) };
        let child = command.spawn().expect("the program can be started");
        let mut screen = File::from(master);
        let keyboard = screen.try_clone().expect("a descriptor is left");
        let written = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&written);
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count) = screen.read(&mut piece) {
                all.lock().expect("no holder of this lock panics").extend_from_slice(&piece[..count]);
            }
        });
        Terminal { child, keyboard, line, written, before }
    }

    /// All that was written so far, escape sequences too.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().expect("no holder of this lock panics")).into_owned()
    }

    /// The words that were written so far, without the escape sequences between them.
    pub fn words(&self) -> String {
        let mut words = String::new();
        let text = self.written();
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '\u{1b}' if rest.peek() == Some(&'[') => {
                    rest.next();
                    // Parameters, then one letter that says what to do.
                    while rest.next().is_some_and(|c| !c.is_ascii_alphabetic()) {}
                    words.push(' ');
                }
                c => words.push(c),
            }
        }
        words.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    pub fn await_words(&self, expected: &str) {
        wait_for(&format!("{expected:?} on the terminal"), || self.words().contains(expected).then_some(()));
    }

    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is our child, not yet waited for");
    }

    /// Its end, with all that it wrote read: the bytes of a terminal come in order, so ours comes last.
    pub fn wait(&mut self) -> ExitStatus {
        let status = wait_for("the program to end", || self.child.try_wait().expect("it is our child"));
        rustix::io::write(&self.line, b"\0").expect("the terminal takes a byte");
        wait_for("the end of what it wrote", || {
            let mut written = self.written.lock().expect("no holder of this lock panics");
            (written.last() == Some(&0)).then(|| written.pop())
        });
        status
    }

    /// Whether the settings are what they were before the program, and the screen is the shell's again.
    pub fn is_restored(&self) -> bool {
        let now = tcgetattr(&self.line).expect("a terminal has settings");
        let same = now.local_modes == self.before.local_modes
            && now.input_modes == self.before.input_modes
            && now.output_modes == self.before.output_modes
            && now.control_modes == self.before.control_modes;
        let text = self.written();
        let last = |on: &str, off: &str| text.rfind(off) > text.rfind(on);
        // Alternate screen off, cursor on.
        same && last("\u{1b}[?1049h", "\u{1b}[?1049l") && last("\u{1b}[?25l", "\u{1b}[?25h")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // One that ended by itself is no failure here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
