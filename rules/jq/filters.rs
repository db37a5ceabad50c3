//! The filters that programs may call which are not written in jq, and those that the rewriting
//! puts in.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jaq_core::box_iter::box_once;
use jaq_core::native::{Fun, bome, run, unary, v};
use jaq_core::{Cv, Exn, Native, RunPtr, ValR};
use jaq_json::{Num, Val};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::DEPTH_MAX;
use super::budget::{Bounded, Budget};
use super::value::of_json;

/// Passes each value on and pays one step for it.
pub(super) const STEP: &str = "!step";
/// Passes each value on and pays for its size.
pub(super) const WEIGH: &str = "!weigh";
/// Passes on what may be looked up in an object or a list.
pub(super) const KEY: &str = "!key";
/// `l * r` with a bound on repeated texts.
pub(super) const MULTIPLY: &str = "!multiply";

/// jaq's own filters that are taken over: pure, and of a cost that follows the size of their input
/// and output, which are paid for. Those that only pass values on, or look at their beginning, have
/// `true`: they are not paid for.
const TAKEN: &[(&str, bool)] = &[
    ("error_empty", true),
    ("path", true),
    ("range", true),
    ("first", true),
    ("last", true),
    ("limit", true),
    ("skip", true),
    ("has", true),
    ("floor", true),
    ("round", true),
    ("ceil", true),
    ("startswith", true),
    ("endswith", true),
    ("ltrimstr", true),
    ("rtrimstr", true),
    ("keys_unsorted", false),
    ("key_values", false),
    ("utf8bytelength", true),
    ("explode", false),
    ("implode", false),
    ("ascii_downcase", false),
    ("ascii_upcase", false),
    ("reverse", false),
    ("sort", false),
    ("sort_by", false),
    ("group_by", false),
    ("min_by_or_empty", false),
    ("max_by_or_empty", false),
    ("trim", false),
    ("ltrim", false),
    ("rtrim", false),
    ("tojson", false),
    ("length", false),
];

/// A filter's name, how many arguments it takes, and whether it needs no payment.
pub(super) type Signature = (&'static str, usize, bool);

/// A filter that passes its input on, wherever filters can stand, also left of `|=`, once it is
/// paid for. Function pointers capture nothing, so this cannot be a function of the payment.
macro_rules! passing {
    ($name:expr, $pay:expr) => {
        (
            $name,
            v(0),
            Native::new(|cv: Cv<'_, Bounded>| {
                box_once(
                    $pay(cv.0.data().budget, &cv.1)
                        .map(|()| cv.1)
                        .map_err(Exn::from),
                )
            })
            .with_paths(|cv| {
                box_once(
                    $pay(cv.0.data().budget, &cv.1.0)
                        .map(|()| cv.1)
                        .map_err(Exn::from),
                )
            })
            .with_update(|cv, update| match $pay(cv.0.data().budget, &cv.1) {
                Ok(()) => update(cv.1),
                Err(error) => box_once(Err(error.into())),
            }),
        )
    };
}

/// All filters, with their signatures.
pub(super) fn all() -> (Vec<Fun<Bounded>>, Vec<Signature>) {
    let taken = jaq_core::funs::<Bounded>()
        .chain(jaq_std::base_funs())
        .chain(jaq_json::funs());
    let taken = taken.filter_map(|fun| {
        TAKEN
            .iter()
            .find(|(name, _)| *name == fun.0)
            .map(|(_, cheap)| (fun, *cheap))
    });
    let passing: [Fun<Bounded>; 2] = [
        passing!(STEP, |budget: &Budget, _: &Val| budget.step(1)),
        passing!(WEIGH, Budget::weigh),
    ];
    let own =
        own()
            .into_iter()
            .chain(super::dates::all())
            .map(|(name, arguments, filter, cheap)| {
                (run::<Bounded>((name, v(arguments), filter)), cheap)
            });
    let all: Vec<(Fun<Bounded>, bool)> = taken
        .chain(own)
        .chain(passing.map(|fun| (fun, true)))
        .collect();
    let signatures = all
        .iter()
        .map(|(fun, cheap)| (fun.0, fun.1.len(), *cheap))
        .collect();
    (all.into_iter().map(|(fun, _)| fun).collect(), signatures)
}

#[expect(clippy::too_many_lines, reason = "a table, an entry for each filter")]
fn own() -> [(&'static str, usize, RunPtr<Bounded>, bool); 13] {
    [
        (KEY, 0, |cv| bome(key(cv.1)), true),
        (
            MULTIPLY,
            2,
            |mut cv| {
                let (right, left) = (cv.0.pop_var(), cv.0.pop_var());
                bome(multiply(cv.0.data().budget, left, right))
            },
            true,
        ),
        ("_sum", 0, |cv| bome(sum(cv.1)), false),
        (
            "_join",
            1,
            |cv| unary(cv, |items, separator| join(&items, &separator)),
            false,
        ),
        ("_number", 0, |cv| bome(number(&cv.1)), true),
        (
            "flatten",
            1,
            |cv| unary(cv, |value, levels| flatten(&value, &levels)),
            false,
        ),
        (
            "contains",
            1,
            |cv| {
                let budget = cv.0.data().budget;
                unary(cv, move |whole, part| {
                    contains(budget, &whole, &part).map(Val::from)
                })
            },
            false,
        ),
        (
            "indices",
            1,
            |cv| {
                let budget = cv.0.data().budget;
                unary(cv, move |whole, part| indices(budget, &whole, &part))
            },
            false,
        ),
        (
            "fromjson",
            0,
            |cv| {
                bome(
                    text(&cv.1).and_then(|text| match pointsman_schemas::json::parse(text) {
                        Ok(value) => Ok(of_json(&value)),
                        Err(error) => Err(failed(format!("this text is not JSON: {error}"))),
                    }),
                )
            },
            false,
        ),
        ("_html", 0, |cv| bome(text(&cv.1).map(escape_html)), false),
        (
            "_uri",
            0,
            |cv| {
                bome(
                    text(&cv.1).map(|text| {
                        Val::from(utf8_percent_encode(&lossy(text), RESERVED).to_string())
                    }),
                )
            },
            false,
        ),
        (
            "_base64",
            0,
            |cv| bome(text(&cv.1).map(|text| Val::from(STANDARD.encode(text)))),
            false,
        ),
        (
            "_base64d",
            0,
            |cv| {
                bome(text(&cv.1).and_then(|text| match STANDARD.decode(text) {
                    Ok(bytes) => Ok(Val::from(lossy(&bytes).into_owned())),
                    Err(error) => Err(failed(format!("this text is not base64: {error}"))),
                }))
            },
            false,
        ),
    ]
}

/// Everything but the unreserved characters of RFC 3986, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

pub(super) fn failed(message: String) -> jaq_json::Error {
    jaq_json::Error::str(message)
}

pub(super) fn lossy(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

pub(super) fn text(value: &Val) -> Result<&[u8], jaq_json::Error> {
    match value {
        Val::TStr(text) => Ok(text),
        other => Err(jaq_json::Error::typ(other.clone(), "string")),
    }
}

/// A key of an object or an index of a list. jaq's lists can be searched for lists and cut by
/// objects in the same place, at any cost.
fn key(value: Val) -> ValR<Val> {
    match value {
        Val::Num(_) | Val::TStr(_) | Val::Null => Ok(value),
        other => Err(jaq_json::Error::typ(other, "key or index")),
    }
}

fn multiply(budget: &Budget, left: Val, right: Val) -> ValR<Val> {
    if let (Val::TStr(text) | Val::BStr(text), Val::Num(times))
    | (Val::Num(times), Val::TStr(text) | Val::BStr(text)) = (&left, &right)
    {
        let times = match times {
            Num::Int(times) => u64::try_from(*times).unwrap_or(0),
            _ => u64::MAX,
        };
        budget.step((text.len() as u64).saturating_mul(times) / 64)?;
    }
    left * right
}

/// What `add` makes of a list, in time that follows its size.
fn sum(items: Val) -> ValR<Val> {
    let Val::Arr(items) = items else {
        return Err(jaq_json::Error::typ(items, "array"));
    };
    let texts: Option<Vec<&[u8]>> = items.iter().map(|item| text(item).ok()).collect();
    match texts {
        Some(texts) if !texts.is_empty() => Ok(Val::utf8_str(texts.concat())),
        _ => items
            .iter()
            .cloned()
            .try_fold(Val::Null, |sum, item| sum + item),
    }
}

fn join(items: &Val, separator: &Val) -> ValR<Val> {
    let Val::Arr(items) = items else {
        return Err(jaq_json::Error::typ(items.clone(), "array"));
    };
    let separator = text(separator)?;
    let mut out = Vec::new();
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(separator);
        }
        match item {
            Val::Null => {}
            Val::TStr(text) => out.extend_from_slice(text),
            Val::Bool(_) | Val::Num(_) => out.extend_from_slice(item.to_string().as_bytes()),
            other => return Err(jaq_json::Error::typ(other.clone(), "string")),
        }
    }
    Ok(Val::utf8_str(out))
}

fn number(value: &Val) -> ValR<Val> {
    let text = lossy(text(value)?);
    match (
        text.parse::<isize>(),
        serde_json::from_str::<serde_json::Number>(&text),
    ) {
        (Ok(whole), _) => Ok(Val::from(whole)),
        (_, Ok(number)) => Ok(of_json(&number.into())),
        _ => Err(failed("cannot parse as number".to_owned())),
    }
}

fn flatten(value: &Val, levels: &Val) -> ValR<Val> {
    fn into(items: &[Val], levels: usize, out: &mut Vec<Val>) {
        for item in items {
            match item {
                Val::Arr(inner) if levels > 0 => into(inner, levels - 1, out),
                other => out.push(other.clone()),
            }
        }
    }
    let (Val::Arr(items), Val::Num(Num::Int(levels))) = (value, levels) else {
        return Err(jaq_json::Error::typ(value.clone(), "array"));
    };
    let mut out = Vec::new();
    into(
        items,
        usize::try_from(*levels).unwrap_or(0).min(DEPTH_MAX),
        &mut out,
    );
    Ok(out.into_iter().collect())
}

fn contains(budget: &Budget, whole: &Val, part: &Val) -> Result<bool, jaq_json::Error> {
    budget.step(1)?;
    match (whole, part) {
        (Val::TStr(whole), Val::TStr(part)) => {
            budget.step(whole.len() as u64 / 64)?;
            Ok(memchr::memmem::find(whole, part).is_some())
        }
        (Val::Arr(whole), Val::Arr(part)) => {
            for part in part.iter() {
                let mut found = false;
                for whole in whole.iter() {
                    found = contains(budget, whole, part)?;
                    if found {
                        break;
                    }
                }
                if !found {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Val::Obj(whole), Val::Obj(part)) => {
            for (key, part) in part.iter() {
                match whole.get(key) {
                    Some(whole) if contains(budget, whole, part)? => {}
                    _ => return Ok(false),
                }
            }
            Ok(true)
        }
        _ => Ok(whole == part),
    }
}

fn indices(budget: &Budget, whole: &Val, part: &Val) -> ValR<Val> {
    match (whole, part) {
        (Val::Null, _) => Ok(Val::Null),
        (Val::TStr(_), Val::TStr(part)) if part.is_empty() => Ok(Val::Null),
        (Val::TStr(whole), Val::TStr(part)) => {
            let (whole, finder) = (lossy(whole), memchr::memmem::Finder::new(&**part));
            let (mut found, mut from, mut characters) = (Vec::new(), 0, 0_usize);
            while let Some(at) = whole
                .as_bytes()
                .get(from..)
                .and_then(|rest| finder.find(rest))
            {
                budget.step(1 + part.len() as u64 / 64)?;
                characters += whole
                    .get(from..from + at)
                    .map_or(0, |passed| passed.chars().count());
                found.push(Val::from(characters));
                from += at
                    + whole
                        .get(from + at..)
                        .and_then(|rest| rest.chars().next())
                        .map_or(1, char::len_utf8);
                characters += 1;
            }
            Ok(found.into_iter().collect())
        }
        (Val::Arr(whole), part) => {
            budget.step(whole.len() as u64)?;
            let equal = |(index, item): (usize, &Val)| (item == part).then(|| Val::from(index));
            Ok(whole.iter().enumerate().filter_map(equal).collect())
        }
        _ => Err(jaq_json::Error::typ(whole.clone(), "string or array")),
    }
}

fn escape_html(text: &[u8]) -> Val {
    let mut out = String::with_capacity(text.len());
    for character in lossy(text).chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    Val::from(out)
}
