//! Properties of the canonical form, over generated trees in generated spellings.
//!
//! [`read_back`] is the left inverse of the form, which makes the form injective; [`meaning`] says in terms of trees
//! what the design says about chat bodies, and is compared with the form for both equality and difference.

use std::{collections::BTreeMap, fmt::Write as _};

use proptest::{collection, prelude::*, sample::Index};

use super::{Scratch, Unkeyed, canon};
use crate::{
    call::canon::json::Scanner,
    dialect::chat::request::{Class, Field, Role},
};

/// A JSON value. Numbers are digits times a power of ten.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tree {
    Null,
    Bool(bool),
    Number {
        negative: bool,
        digits: u64,
        exponent: i16,
    },
    Text(String),
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

/// An endless supply of small choices for spelling.
struct Choices(u64);

impl Choices {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn blank(&mut self, out: &mut String) {
        out.push_str(["", "", "", " ", "\n\t", "\r\n  "][self.below(6)]);
    }
}

impl Tree {
    /// Writes the tree in one of its spellings.
    fn spell(&self, choices: &mut Choices, out: &mut String) {
        choices.blank(out);
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number {
                negative,
                digits,
                exponent,
            } => {
                out.push_str(if *negative { "-" } else { "" });
                spell_number(*digits, *exponent, choices, out);
            }
            Self::Text(text) => spell_text(text, choices, out),
            Self::Array(items) => {
                spell_list(
                    items.iter().collect(),
                    ['[', ']'],
                    choices,
                    out,
                    Self::spell,
                );
            }
            Self::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                for last in (1..members.len()).rev() {
                    members.swap(last, choices.below(last + 1));
                }
                spell_list(
                    members,
                    ['{', '}'],
                    choices,
                    out,
                    |(name, value), choices, out| {
                        choices.blank(out);
                        spell_text(name, choices, out);
                        choices.blank(out);
                        out.push(':');
                        value.spell(choices, out);
                    },
                );
            }
        }
        choices.blank(out);
    }

    /// Returns the tree with members sorted and numbers without trailing zeros.
    fn normal(&self) -> Self {
        match self {
            Self::Number {
                negative,
                digits,
                exponent,
            } => {
                let (mut digits, mut exponent) = (*digits, *exponent);
                while digits != 0 && digits.is_multiple_of(10) {
                    digits /= 10;
                    exponent += 1;
                }
                let exponent = if digits == 0 { 0 } else { exponent };
                Self::Number {
                    negative: *negative,
                    digits,
                    exponent,
                }
            }
            Self::Array(items) => Self::Array(items.iter().map(Self::normal).collect()),
            Self::Object(members) => {
                let mut members: Vec<_> = members
                    .iter()
                    .map(|(name, value)| (name.clone(), value.normal()))
                    .collect();
                members.sort_by_key(|(name, _)| fold(name));
                Self::Object(members)
            }
            other => other.clone(),
        }
    }

    /// Returns this node and all below it.
    fn count(&self) -> usize {
        match self {
            Self::Array(items) => 1 + items.iter().map(Self::count).sum::<usize>(),
            Self::Object(members) => {
                1 + members
                    .iter()
                    .map(|(_, value)| value.count())
                    .sum::<usize>()
            }
            _ => 1,
        }
    }

    /// Changes the node with this number, counted from the root.
    fn change(&mut self, at: usize, change: &mut dyn FnMut(&mut Self)) {
        let mut at = at;
        if at == 0 {
            return change(self);
        }
        at -= 1;
        let children: Vec<_> = match self {
            Self::Array(items) => items.iter_mut().collect(),
            Self::Object(members) => members.iter_mut().map(|(_, value)| value).collect(),
            _ => Vec::new(),
        };
        for child in children {
            let count = child.count();
            if at < count {
                return child.change(at, change);
            }
            at -= count;
        }
    }
}

fn spell_list<T>(
    items: Vec<T>,
    [open, close]: [char; 2],
    choices: &mut Choices,
    out: &mut String,
    spell: impl Fn(T, &mut Choices, &mut String),
) {
    out.push(open);
    choices.blank(out);
    for (at, item) in items.into_iter().enumerate() {
        out.push_str(if at == 0 { "" } else { "," });
        spell(item, choices, out);
    }
    out.push(close);
}

fn spell_number(digits: u64, exponent: i16, choices: &mut Choices, out: &mut String) {
    let zeros = choices.below(3);
    let digits = format!("{digits}{}", "0".repeat(zeros));
    let exponent = exponent - i16::try_from(zeros).unwrap();
    let cut = 1 + choices.below(digits.len());
    let (whole, fraction) = digits.split_at(cut);
    // A number that starts with 0 is a zero, all of it.
    let whole = if whole.starts_with('0') { "0" } else { whole };
    let exponent = exponent + i16::try_from(fraction.len()).unwrap();
    out.push_str(whole);
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    if exponent != 0 || choices.below(4) == 0 {
        let sign = if exponent >= 0 {
            ["", "+"][choices.below(2)]
        } else {
            ""
        };
        let mark = ["e", "E"][choices.below(2)];
        write!(out, "{mark}{sign}{exponent}").unwrap();
    }
}

fn spell_text(text: &str, choices: &mut Choices, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        let must = matches!(character, '"' | '\\' | '\0'..'\x20');
        if must || choices.below(5) == 0 {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                let lower = choices.below(2) == 0;
                let escaped = if lower {
                    write!(out, "\\u{unit:04x}")
                } else {
                    write!(out, "\\u{unit:04X}")
                };
                escaped.unwrap();
            }
        } else {
            out.push(character);
        }
    }
    out.push('"');
}

/// Returns a name as the most lenient parser sees it.
fn fold(name: &str) -> String {
    name.to_ascii_lowercase()
        .replace('\u{17f}', "s")
        .replace('\u{212a}', "k")
}

fn spelled(tree: &Tree, seed: u64) -> String {
    let mut out = String::new();
    tree.spell(&mut Choices(seed), &mut out);
    out
}

/// Returns the canonical form of any JSON value.
fn form(json: &str) -> Result<Vec<u8>, Unkeyed> {
    let mut scratch = Scratch::default();
    let mut scanner = Scanner::new(json, &mut scratch);
    let start = scanner.mark();
    scanner.value()?;
    scanner.end()?;
    let mut out = Vec::new();
    scanner.copy(scanner.span(start), &mut out);
    Ok(out)
}

/// Returns the tree that a canonical form stands for, and what follows it.
fn read_back(form: &[u8]) -> (Tree, &[u8]) {
    match form {
        [b'n', rest @ ..] => (Tree::Null, rest),
        [b't', rest @ ..] => (Tree::Bool(true), rest),
        [b'f', rest @ ..] => (Tree::Bool(false), rest),
        [sign @ (b'+' | b'-'), high, low, rest @ ..] => {
            let end = rest.iter().position(|&byte| byte == b';').unwrap();
            let digits = str::from_utf8(&rest[..end]).unwrap();
            let first = i16::from_be_bytes([*high, *low]);
            let number = Tree::Number {
                negative: *sign == b'-',
                digits: if digits.is_empty() {
                    0
                } else {
                    digits.parse().unwrap()
                },
                exponent: if digits.is_empty() {
                    first
                } else {
                    first + 1 - i16::try_from(digits.len()).unwrap()
                },
            };
            (number, &rest[end + 1..])
        }
        [b'"', rest @ ..] => {
            let end = rest.iter().position(|&byte| byte == 0xFF).unwrap();
            (
                Tree::Text(String::from_utf8(rest[..end].to_vec()).unwrap()),
                &rest[end + 1..],
            )
        }
        [b'[', rest @ ..] => {
            let (mut rest, mut items) = (rest, Vec::new());
            while rest[0] != b']' {
                let (item, after) = read_back(rest);
                items.push(item);
                rest = after;
            }
            (Tree::Array(items), &rest[1..])
        }
        [b'{', rest @ ..] => {
            let (mut rest, mut members) = (rest, Vec::new());
            while rest[0] != b'}' {
                let (Tree::Text(name), after) = read_back(rest) else {
                    panic!("a name is a string")
                };
                let (value, after) = read_back(after);
                members.push((name, value));
                rest = after;
            }
            (Tree::Object(members), &rest[1..])
        }
        other => panic!("no canonical form: {other:?}"),
    }
}

/// Returns what a chat body means, as the design has it: equal meanings, equal keys.
fn meaning(body: &Tree) -> Tree {
    let Tree::Object(members) = body else {
        panic!("a body is an object")
    };
    let members = members.iter().filter_map(|(name, value)| {
        let field = Field::named(name);
        let counts = field.is_none_or(|field| {
            field.class() == Class::Keyed && !(field.nullable() && *value == Tree::Null)
        });
        let value = match (field, value) {
            (Some(Field::Messages), Tree::Array(messages)) => {
                Tree::Array(messages.iter().map(said).collect())
            }
            (Some(Field::Stop), Tree::Text(_)) => Tree::Array(vec![value.clone()]),
            _ => value.clone(),
        };
        counts.then(|| (name.clone(), value))
    });
    Tree::Object(members.collect()).normal()
}

/// Returns what a message means.
fn said(message: &Tree) -> Tree {
    let Tree::Object(members) = message else {
        return message.clone();
    };
    let role = members.iter().find_map(|(name, value)| match value {
        Tree::Text(role) if name == "role" => Some(Role::named(role)),
        _ => None,
    });
    let members = members.iter().filter(|(name, value)| {
        !(*value == Tree::Null && role.is_some_and(|role| role.may_be_null(name)))
    });
    let members = members.map(|(name, value)| match value {
        Tree::Text(_) if name == "content" => {
            (name.clone(), Tree::Array(vec![part(value.clone())]))
        }
        _ => (name.clone(), value.clone()),
    });
    Tree::Object(members.collect())
}

fn part(text: Tree) -> Tree {
    Tree::Object(vec![
        ("type".to_owned(), Tree::Text("text".to_owned())),
        ("text".to_owned(), text),
    ])
}

fn number() -> impl Strategy<Value = Tree> {
    let digits = prop_oneof![0..30_u64, any::<u64>(), Just(1 << 53), Just((1 << 53) + 1)];
    (any::<bool>(), digits, -40..40_i16).prop_map(|(negative, digits, exponent)| Tree::Number {
        negative,
        digits,
        exponent,
    })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c\"\\\\\\[\\]{};+n-]{0,6}",
        "\\PC{0,40}",
        any::<String>(),
        Just("x".to_owned()),
        Just("assistant".to_owned()),
    ]
}

fn name() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "role", "content", "refusal", "type", "text", "user", "stop", "seed", "stream",
    ]);
    prop_oneof![text(), known.prop_map(str::to_owned), "[a-c]{1,10}"]
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Null),
        any::<bool>().prop_map(Tree::Bool),
        number(),
        text().prop_map(Tree::Text),
        text().prop_map(|text| part(Tree::Text(text))),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..5).prop_map(Tree::Array),
            collection::vec((name(), inner), 0..6).prop_map(object),
        ]
    })
}

/// Returns an object of these members without doubles; of those the last one stays.
fn object(members: Vec<(String, Tree)>) -> Tree {
    let members: BTreeMap<_, _> = members
        .into_iter()
        .map(|member| (fold(&member.0), member))
        .collect();
    Tree::Object(members.into_values().collect())
}

fn message() -> impl Strategy<Value = Tree> {
    let role = prop::sample::select(vec!["system", "user", "assistant", "tool", "function"]);
    let named = prop::sample::select(vec![
        "refusal",
        "audio",
        "name",
        "tool_calls",
        "function_call",
        "x",
    ]);
    let value = || prop_oneof![Just(Tree::Null), tree()];
    (
        role,
        value(),
        collection::vec((named.prop_map(str::to_owned), value()), 0..4),
    )
        .prop_map(|(role, content, mut members)| {
            members.push(("role".to_owned(), Tree::Text(role.to_owned())));
            members.push(("content".to_owned(), content));
            object(members)
        })
}

fn body() -> impl Strategy<Value = Tree> {
    let known =
        prop::sample::select(Field::ALL.to_vec()).prop_map(|field| field.as_str().to_owned());
    let member = (
        prop_oneof![known, name()],
        prop_oneof![Just(Tree::Null), tree()],
    );
    (
        text(),
        collection::vec(message(), 0..4),
        collection::vec(member, 0..6),
    )
        .prop_map(|(model, messages, mut members)| {
            members.push(("model".to_owned(), Tree::Text(model)));
            members.push(("messages".to_owned(), Tree::Array(messages)));
            object(members)
        })
}

/// Bytes that mean something to a scanner.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<&[u8]> = vec![
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"",
        b"\\",
        b"\\u",
        b"d800",
        b"null",
        b"true",
        b"-",
        b"0",
        b"1",
        b".",
        b"e9",
        b" ",
        b"\"model\":\"m\"",
        b"\"messages\":[",
        b"\"content\":",
        b"\"stop\":",
        b"\"tools\":[{",
        b"\"role\":\"assistant\"",
        b"\xff",
        b"\xef\xbb\xbf",
    ];
    prop_oneof![
        4 => prop::sample::select(known).prop_map(<[u8]>::to_vec),
        1 => collection::vec(any::<u8>(), 0..4),
    ]
}

proptest! {
    #[test]
    fn the_form_can_be_read_back_whatever_the_spelling(tree in tree(), seeds in any::<[u64; 3]>()) {
        let forms = seeds.map(|seed| form(&spelled(&tree, seed)).unwrap());
        prop_assert_eq!(&forms[0], &forms[1]);
        prop_assert_eq!(&forms[0], &forms[2]);
        let (read, rest) = read_back(&forms[0]);
        prop_assert_eq!(rest, b"");
        prop_assert_eq!(&read, &tree.normal());
        prop_assert_eq!(form(&spelled(&read, seeds[0])).unwrap(), forms[0].clone(), "idempotent");
    }

    #[test]
    fn what_is_accepted_serde_json_accepts_with_the_same_structure(tree in tree(), seed: u64) {
        let json = spelled(&tree, seed);
        prop_assert!(form(&json).is_ok());
        let theirs: serde_json::Value = serde_json::from_str(&json).unwrap();
        prop_assert!(same(&tree, &theirs), "{} {}", json, theirs);
    }

    #[test]
    fn a_chat_body_stands_for_its_meaning(body in body(), seed: u64) {
        let canonical = canon(spelled(&body, seed)).unwrap();
        prop_assert_eq!(read_back(&canonical.body).0, meaning(&body));
    }

    #[test]
    fn changing_any_value_at_any_pointer_changes_the_form_with_the_meaning(
        body in body(), at: Index, with in tree(), seeds in any::<[u64; 2]>(),
    ) {
        let mut changed = body.clone();
        changed.change(1 + at.index(body.count() - 1), &mut |node| *node = with.clone());
        let before = canon(spelled(&body, seeds[0])).unwrap().body;
        match canon(spelled(&changed, seeds[1])) {
            Ok(after) => prop_assert_eq!(after.body == before, meaning(&body) == meaning(&changed)),
            Err(reason) => prop_assert!(matches!(reason, Unkeyed::NoModel | Unkeyed::NoMessages), "{}", reason),
        }
    }

    #[test]
    fn adding_taking_and_renaming_members_changes_the_form_with_the_meaning(
        body in body(), at: Index, name in name(), value in tree(), seeds in any::<[u64; 2]>(),
    ) {
        let mut changed = body.clone();
        changed.change(at.index(body.count()), &mut |node| {
            if let Tree::Object(members) = node {
                members.pop();
                members.push((name.clone(), value.clone()));
                *node = object(std::mem::take(members));
            }
        });
        let before = canon(spelled(&body, seeds[0])).unwrap().body;
        if let Ok(after) = canon(spelled(&changed, seeds[1])) {
            prop_assert_eq!(after.body == before, meaning(&body) == meaning(&changed));
        }
    }

    #[test]
    fn a_double_is_refused_wherever_it_stands(body in body(), at: Index, seed: u64) {
        let mut changed = body.clone();
        let mut doubled = false;
        changed.change(at.index(body.count()), &mut |node| {
            if let Tree::Object(members) = node
                && let Some((name, value)) = members.first().cloned()
            {
                members.push((name.to_ascii_uppercase(), value));
                doubled = true;
            }
        });
        let expected = if doubled { Some(Unkeyed::DuplicateKey) } else { None };
        prop_assert_eq!(canon(spelled(&changed, seed)).err(), expected);
    }

    #[test]
    fn random_fragments_are_read_or_refused_and_serde_json_never_disagrees(
        fragments in collection::vec(fragment(), 0..40),
    ) {
        let body = fragments.concat();
        let wrapped = [b"{\"model\":\"m\",\"messages\":[],\"x\":", body.as_slice(), b"}"].concat();
        for body in [body, wrapped] {
            if canon(&body).is_ok() {
                prop_assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok());
            }
        }
    }

    #[test]
    fn a_body_with_one_byte_changed_is_read_or_refused_and_serde_json_never_disagrees(
        body in body(), seed: u64, at: Index, byte: u8,
    ) {
        let mut body = spelled(&body, seed).into_bytes();
        let at = at.index(body.len());
        body[at] = byte;
        if canon(&body).is_ok() {
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok());
        }
    }
}

/// Returns whether `serde_json` has read the same value, as far as its numbers tell.
fn same(tree: &Tree, value: &serde_json::Value) -> bool {
    use serde_json::Value;
    match (tree, value) {
        (Tree::Null, Value::Null) => true,
        (Tree::Bool(ours), Value::Bool(theirs)) => ours == theirs,
        (
            Tree::Number {
                negative,
                digits,
                exponent,
            },
            Value::Number(theirs),
        ) => {
            let ours: f64 = format!("{digits}e{exponent}").parse().unwrap();
            theirs.as_f64() == Some(if *negative { -ours } else { ours })
        }
        (Tree::Text(ours), Value::String(theirs)) => ours == theirs,
        (Tree::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len()
                && ours
                    .iter()
                    .zip(theirs)
                    .all(|(ours, theirs)| same(ours, theirs))
        }
        (Tree::Object(ours), Value::Object(theirs)) => {
            ours.len() == theirs.len()
                && ours
                    .iter()
                    .all(|(name, ours)| theirs.get(name).is_some_and(|theirs| same(ours, theirs)))
        }
        _ => false,
    }
}
