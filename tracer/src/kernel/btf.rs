//! Numbers of the running kernel by name, from its BTF. aya keeps its own type walk private, hence `btf-rs`.

use std::{borrow::Cow, collections::HashMap, fs, io, os::fd::AsRawFd as _};

use btf_rs::{Backend, Btf, FuncProto, Type};

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
/// Deeper than any chain of typedefs, qualifiers and anonymous members in a kernel.
const DEPTH: usize = 32;

/// The kernel's type information.
pub struct KernelBtf {
    btf: Btf,
    /// Types of the names that will be asked for.
    named: HashMap<String, Vec<Type>>,
}

/// The name of the type that a spelling of `KernelBtf::number` begins with.
pub fn first_name(spelling: &str) -> String {
    let (word, path) = spelling.split_once(' ').unwrap_or(("", spelling));
    let name = path.split_once('.').map_or(path, |(name, _)| name);
    if matches!(word, "arg" | "args") { tracepoint_type(name) } else { name.to_owned() }
}

/// The name of the type that says what a tracepoint passes.
pub fn tracepoint_type(event: &str) -> String {
    format!("btf_trace_{event}")
}

impl KernelBtf {
    /// Maps the kernel's BTF: a hundredth of the time and memory of parsing it whole. The names are those that will be asked
    /// for: all of them take one pass over the types, each of any other takes one of its own, a millisecond.
    pub fn open(names: impl IntoIterator<Item = String>) -> Result<KernelBtf, String> {
        // Before 6.16 (`bin_attribute.mmap` for BTF) sysfs cannot map it: then a copy in memory is mapped.
        let btf = Btf::from_file_with_backend(VMLINUX, Backend::Mmap)
            .or_else(|_| from_copy(VMLINUX))
            .map_err(|error| format!("cannot read {VMLINUX}: {error}"))?;
        let mut named: HashMap<String, Vec<Type>> =
            names.into_iter().map(|name| (name, Vec::new())).collect();
        let (first, last) = btf.base().type_id_range();
        for found in (first..=last).filter_map(|id| btf.resolve_type_by_id(id).ok()) {
            let name = found.as_btf_type().and_then(|found| btf.resolve_name(found).ok());
            if let Some(types) = name.and_then(|name| named.get_mut(&name)) {
                types.push(found);
            }
        }
        Ok(KernelBtf { btf, named })
    }

    fn types(&self, name: &str) -> Cow<'_, [Type]> {
        match self.named.get(name) {
            Some(types) => types.into(),
            None => self.btf.resolve_types_by_name(name).unwrap_or_default().into(),
        }
    }

    /// `struct.field[.field...]` as a byte offset, `enum NAME.ENUMERATOR` as a value, `arg EVENT.STRUCT` as a place;
    /// `bit` and `args` as `abi/offsets.rs` says.
    pub fn number(&self, spelling: &str) -> Option<u32> {
        match spelling.strip_prefix("enum ") {
            Some(path) => {
                let (name, enumerator) = path.split_once('.')?;
                self.enumerator(name, enumerator)
            }
            None if spelling.starts_with("args ") => self.tracepoint_args(spelling.strip_prefix("args ")?),
            None if spelling.starts_with("bit ") => {
                let (name, field) = spelling.strip_prefix("bit ")?.split_once('.')?;
                self.types(name).iter().find_map(|root| self.bit(root.clone(), field, 0))
            }
            None if spelling.starts_with("arg ") => {
                let (event, structure) = spelling.strip_prefix("arg ")?.split_once('.')?;
                self.argument(event, structure)
            }
            None => {
                let mut fields = spelling.split('.');
                let name = fields.next()?;
                let fields: Vec<&str> = fields.collect();
                self.types(name).iter().find_map(|root| self.offset(root.clone(), &fields, 0))
            }
        }
    }

    /// How many arguments the function takes, if BTF has it.
    pub fn function_args(&self, name: &str) -> Option<u32> {
        self.types(name).iter().find_map(|found| match found {
            Type::Func(function) => match self.btf.resolve_chained_type(function).ok()? {
                Type::FuncProto(proto) => Some(proto.parameters.len() as u32),
                _ => None,
            },
            _ => None,
        })
    }

    /// How many arguments the tracepoint passes (its BTF type has one more, the probe's own data).
    pub fn tracepoint_args(&self, event: &str) -> Option<u32> {
        (self.tracepoint(event)?.parameters.len() as u32).checked_sub(1)
    }

    fn tracepoint(&self, event: &str) -> Option<FuncProto> {
        self.types(&tracepoint_type(event)).iter().find_map(|found| {
            let Type::Typedef(alias) = found else { return None };
            let Type::Ptr(pointer) = self.btf.resolve_chained_type(alias).ok()? else { return None };
            let Type::FuncProto(proto) = self.btf.resolve_chained_type(&pointer).ok()? else { return None };
            Some(proto)
        })
    }

    /// The place of a tracepoint's first argument that points to a structure.
    fn argument(&self, event: &str, structure: &str) -> Option<u32> {
        let proto = self.tracepoint(event)?;
        let place = proto.parameters.iter().skip(1).position(|parameter| {
            let Ok(Type::Ptr(pointer)) = self.btf.resolve_chained_type(parameter) else { return false };
            let to = self.btf.resolve_chained_type(&pointer).ok().and_then(|to| self.plain(to));
            matches!(to, Some(Type::Struct(body)) if self.btf.resolve_name(&body).is_ok_and(|name| name == structure))
        });
        place.map(|place| place as u32)
    }

    fn enumerator(&self, name: &str, enumerator: &str) -> Option<u32> {
        self.types(name).iter().find_map(|found| {
            let Type::Enum(list) = found else { return None };
            let member = list
                .members
                .iter()
                .find(|member| self.btf.resolve_name(*member).is_ok_and(|found| found == enumerator))?;
            Some(member.val())
        })
    }

    /// Byte offset of a field path below a structure, through typedefs, qualifiers and anonymous members.
    fn offset(&self, within: Type, fields: &[&str], depth: usize) -> Option<u32> {
        let Some((first, rest)) = fields.split_first() else { return Some(0) };
        if depth > DEPTH {
            return None;
        }
        let members = match self.plain(within)? {
            Type::Struct(body) | Type::Union(body) => body.members,
            _ => return None,
        };
        for member in &members {
            let name = self.btf.resolve_name(member).unwrap_or_default();
            let found = if name.is_empty() {
                self.offset(self.btf.resolve_chained_type(member).ok()?, fields, depth + 1)
            } else if name == *first {
                match rest {
                    [] => Some(0),
                    _ => self.offset(self.btf.resolve_chained_type(member).ok()?, rest, depth + 1),
                }
            } else {
                None
            };
            if let Some(found) = found {
                // A bit field has no byte offset.
                return member.bit_offset().is_multiple_of(8).then(|| member.bit_offset() / 8 + found);
            }
        }
        None
    }

    /// The place of a bit field, through anonymous members.
    fn bit(&self, within: Type, field: &str, depth: usize) -> Option<u32> {
        let (Type::Struct(body) | Type::Union(body)) = self.plain(within)? else { return None };
        if depth > DEPTH {
            return None;
        }
        body.members.iter().find_map(|member| match self.btf.resolve_name(member).unwrap_or_default() {
            name if name == field => Some(member.bit_offset()),
            name if name.is_empty() => {
                let inner = self.bit(self.btf.resolve_chained_type(member).ok()?, field, depth + 1)?;
                Some(member.bit_offset() + inner)
            }
            _ => None,
        })
    }

    /// The type behind typedefs and qualifiers.
    fn plain(&self, mut found: Type) -> Option<Type> {
        for _ in 0..DEPTH {
            found = match &found {
                Type::Typedef(alias) => self.btf.resolve_chained_type(alias).ok()?,
                Type::Const(qualifier) | Type::Volatile(qualifier) | Type::Restrict(qualifier) => {
                    self.btf.resolve_chained_type(qualifier).ok()?
                }
                Type::TypeTag(tag) => self.btf.resolve_chained_type(tag).ok()?,
                _ => return Some(found),
            };
        }
        None
    }
}

fn from_copy(path: &str) -> Result<Btf, btf_rs::Error> {
    let failed = |error: rustix::io::Errno| btf_rs::Error::IO(io::Error::from(error));
    let copy = rustix::fs::memfd_create("btf", rustix::fs::MemfdFlags::CLOEXEC).map_err(failed)?;
    let mut copy = fs::File::from(copy);
    io::copy(&mut fs::File::open(path)?, &mut copy)?;
    Btf::from_file_with_backend(format!("/proc/self/fd/{}", copy.as_raw_fd()), Backend::Mmap)
}
