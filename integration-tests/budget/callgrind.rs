//! A profile as callgrind writes it, read back.
//!
//! The format is that of the manual's chapter "Callgrind Format Specification", as written with
//! `--dump-instr=yes --dump-line=no --compress-strings=no --compress-pos=no`: addresses instead of
//! lines, every name and position in full.

use std::collections::HashMap;

/// One function of one file of code.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Function {
    /// The executable or library.
    pub object: String,
    /// Its symbol, mangled.
    pub symbol: String,
}

/// The number of a function in its profile.
pub type FunctionNumber = usize;

/// Instructions at an address, without what is called from there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OwnCost {
    /// Whose.
    pub function: FunctionNumber,
    /// Where, as the object's file counts.
    pub address: u64,
    /// How many.
    pub instructions: u64,
}

/// All calls from an address to one function.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Calls {
    /// Who calls.
    pub caller: FunctionNumber,
    /// From where.
    pub address: u64,
    /// Who is called.
    pub callee: FunctionNumber,
    /// What that took in all, with whatever it called itself.
    pub instructions: u64,
}

/// What ran, and who called whom.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// The functions, by number.
    pub functions: Vec<Function>,
    /// What they did themselves.
    pub costs: Vec<OwnCost>,
    /// Their calls.
    pub calls: Vec<Calls>,
}

impl Profile {
    /// Reads a profile.
    ///
    /// # Errors
    /// It is not of the form that is read here: which line, and what stands there.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut reading = Reading::default();
        for (index, line) in text.lines().enumerate() {
            reading
                .line(line)
                .ok_or_else(|| format!("line {} of the profile: {line}", index + 1))?;
        }
        Ok(reading.profile)
    }

    /// All instructions.
    #[must_use]
    pub fn instructions(&self) -> u64 {
        self.costs.iter().map(|cost| cost.instructions).sum()
    }
}

#[derive(Default)]
struct Reading {
    profile: Profile,
    numbers: HashMap<Function, FunctionNumber>,
    object: String,
    function: Option<FunctionNumber>,
    called_object: Option<String>,
    callee: Option<FunctionNumber>,
    /// The next line is what calls cost.
    is_call: bool,
}

impl Reading {
    fn line(&mut self, line: &str) -> Option<()> {
        if line.starts_with("0x") {
            return self.cost(line);
        }
        let Some((key, value)) = line.split_once('=') else {
            return Some(());
        };
        match key {
            "ob" => value.clone_into(&mut self.object),
            "fn" => self.function = Some(self.number(self.object.clone(), value)),
            "cob" => self.called_object = Some(value.to_owned()),
            "cfn" => {
                let object = self.called_object.take();
                let object = object.unwrap_or_else(|| self.object.clone());
                self.callee = Some(self.number(object, value));
            }
            "calls" => self.is_call = true,
            _ => {}
        }
        Some(())
    }

    fn number(&mut self, object: String, symbol: &str) -> FunctionNumber {
        let function = Function {
            object,
            symbol: symbol.to_owned(),
        };
        let functions = &mut self.profile.functions;
        *self.numbers.entry(function).or_insert_with_key(|function| {
            functions.push(function.clone());
            functions.len() - 1
        })
    }

    fn cost(&mut self, line: &str) -> Option<()> {
        let (address, instructions) = line.split_once(' ')?;
        let address = u64::from_str_radix(address.strip_prefix("0x")?, 16).ok()?;
        let instructions = instructions.trim().parse().ok()?;
        let function = self.function?;
        if std::mem::take(&mut self.is_call) {
            self.profile.calls.push(Calls {
                caller: function,
                address,
                callee: self.callee?,
                instructions,
            });
        } else {
            self.profile.costs.push(OwnCost {
                function,
                address,
                instructions,
            });
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As callgrind 3.19 writes it, shortened.
    const TEXT: &str = "\
# callgrind format
version: 1
creator: callgrind-3.19.0
positions: instr
events: Ir

ob=/bus
fl=src/a.rs
fn=_ZN1a
0x10 3
fi=src/b.rs
0x14 2
cob=/lib/libc.so.6
cfi=???
cfn=memcpy
calls=2 0x90
0x18 40
cfi=src/a.rs
cfn=_ZN1b
calls=1 0x30
0x1c 7
0x20 1

fn=_ZN1b
0x30 7

ob=/lib/libc.so.6
fl=???
fn=memcpy
0x90 40

totals: 53
";

    #[test]
    fn costs_and_calls_are_read_with_their_places() {
        let profile = Profile::parse(TEXT).unwrap();
        let symbols: Vec<_> = profile
            .functions
            .iter()
            .map(|function| (function.object.as_str(), function.symbol.as_str()))
            .collect();
        assert_eq!(
            symbols,
            [
                ("/bus", "_ZN1a"),
                ("/lib/libc.so.6", "memcpy"),
                ("/bus", "_ZN1b")
            ]
        );
        let costs: Vec<_> = profile
            .costs
            .iter()
            .map(|cost| (cost.function, cost.address, cost.instructions))
            .collect();
        assert_eq!(
            costs,
            [
                (0, 0x10, 3),
                (0, 0x14, 2),
                (0, 0x20, 1),
                (2, 0x30, 7),
                (1, 0x90, 40)
            ]
        );
        let calls: Vec<_> = profile
            .calls
            .iter()
            .map(|calls| {
                (
                    calls.caller,
                    calls.address,
                    calls.callee,
                    calls.instructions,
                )
            })
            .collect();
        assert_eq!(calls, [(0, 0x18, 1, 40), (0, 0x1c, 2, 7)]);
        assert_eq!(profile.instructions(), 53);
    }

    #[test]
    fn what_is_no_profile_is_told_with_its_line() {
        let error = Profile::parse("fn=a\n0x10 3\n0xzz 4\n").unwrap_err();
        assert_eq!(error, "line 3 of the profile: 0xzz 4");
        assert!(Profile::parse("0x10 3\n").is_err(), "of no function");
    }
}
