//! The kernel's own symbol table, `/proc/kallsyms`: from an address to the function it is in.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
};

/// Lines of it that are read; a large kernel with all its modules has a quarter of a million.
const LIMIT: usize = 2_000_000;
/// A function of a module is not longer than this; an address beyond it belongs to something that is not listed.
const FUNCTION: u64 = 1 << 20;

/// Functions by address. Written by hand since libraries keep a `String` for each of 200,000 symbols, data too:
/// 25 MiB instead of 6.
pub struct Kallsyms {
    /// (address, where its name begins in `names`), sorted.
    symbols: Vec<(u64, u32)>,
    names: String,
    /// Of the kernel image.
    text_end: u64,
}

impl Kallsyms {
    /// Fails where the kernel hides addresses (`kernel.kptr_restrict`).
    pub fn read() -> io::Result<Kallsyms> {
        Kallsyms::parse(BufReader::with_capacity(1 << 16, File::open("/proc/kallsyms")?))
    }

    fn parse(mut text: impl BufRead) -> io::Result<Kallsyms> {
        let mut found = Kallsyms { symbols: Vec::new(), names: String::new(), text_end: u64::MAX };
        let mut line = String::new();
        for _ in 0..LIMIT {
            line.clear();
            if text.read_line(&mut line)? == 0 {
                break;
            }
            found.add(&line);
        }
        if found.symbols.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the kernel hides its addresses: it takes CAP_SYSLOG and kernel.kptr_restrict below 2",
            ));
        }
        // Stable, so that of several names for one address the first in the table stays first.
        found.symbols.sort_by_key(|(address, _)| *address);
        found.symbols.shrink_to_fit();
        found.names.shrink_to_fit();
        Ok(found)
    }

    /// `address type name [module]`
    fn add(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let (Some(address), Some(kind), Some(name)) = (words.next(), words.next(), words.next()) else {
            return;
        };
        let Ok(address) = u64::from_str_radix(address, 16) else { return };
        if name == "_etext" {
            self.text_end = address;
        }
        let Ok(at) = u32::try_from(self.names.len()) else { return };
        if address == 0 || !matches!(kind, "t" | "T" | "w" | "W") {
            return;
        }
        self.symbols.push((address, at));
        self.names.push_str(name);
        if let Some(module) = words.next() {
            self.names.push(' ');
            self.names.push_str(module);
        }
        self.names.push('\n');
    }

    /// The function that holds an address, and `[module]` after it if it is in one.
    pub fn function(&self, address: u64) -> Option<&str> {
        let after = self.symbols.partition_point(|(start, _)| *start <= address);
        let (start, _) = self.symbols.get(after.checked_sub(1)?)?;
        let first = self.symbols.partition_point(|(other, _)| other < start);
        let name = self.names.get(self.symbols[first].1 as usize..)?.split('\n').next()?;
        let listed = if name.ends_with(']') { address - start < FUNCTION } else { address < self.text_end };
        listed.then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "ffffffff81000000 T _stext\n\
        ffffffff81000100 t try_charge_memcg\n\
        ffffffff81000100 t an_alias\n\
        ffffffff81000200 T _etext\n\
        ffffffff82000000 D data\n\
        ffffffffc0000000 t ext4_write_begin\t[ext4]\n";

    #[test]
    fn an_address_is_in_the_function_before_it() {
        let table = Kallsyms::parse(TABLE.as_bytes()).unwrap();
        assert_eq!(table.function(0xffff_ffff_8100_0100), Some("try_charge_memcg"));
        assert_eq!(table.function(0xffff_ffff_8100_01ff), Some("try_charge_memcg"));
        assert_eq!(table.function(0xffff_ffff_8200_0000), None, "data is no function");
        assert_eq!(table.function(0xffff_ffff_c000_0010), Some("ext4_write_begin [ext4]"));
        assert_eq!(table.function(0xffff_ffff_d000_0000), None, "too far from anything");
        assert_eq!(table.function(1), None);
    }

    #[test]
    fn hidden_addresses_are_an_error() {
        assert!(Kallsyms::parse("0000000000000000 T _stext\n".as_bytes()).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_no_panic(text in "([0-9a-f]{1,18} [tTdD] \\PC{0,8}\n|\\PC|\n){0,50}", address: u64) {
            if let Ok(table) = Kallsyms::parse(text.as_bytes()) {
                table.function(address);
            }
        }
    }
}
