//! Numbers: exact decimals of their text, never a float. Pure.
//!
//! # Scope
//! `1`, `1.0`, `1e0` and `10e-1` are one number; 2^53 and 2^53+1 are two, and so are two decimals that some float cannot
//! tell apart. `-0` is kept apart from `0`: some parsers keep the sign and some lose it, so that the upstream may see a
//! difference. Numbers that a parser may round to infinity or zero are refused.

use std::ops::RangeInclusive;

use super::Unkeyed;

/// Decimal exponents, as written and of the first digit, that are read: well inside those of a 64-bit float (-307 to 308).
const EXPONENTS: RangeInclusive<i16> = -300..=300;

/// The parts of a number's text; `whole` and `fraction` are digits.
struct Decimal<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i16,
}

/// Appends the canonical form of the number that `text` starts with; returns what follows it.
pub(super) fn decode<'a>(text: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], Unkeyed> {
    let (decimal, rest) = parse(text)?;
    write(&decimal, out)?;
    Ok(rest)
}

fn parse(text: &[u8]) -> Result<(Decimal<'_>, &[u8]), Unkeyed> {
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    let (whole, rest) = whole(unsigned)?;
    let (fraction, rest) = fraction(rest)?;
    let (exponent, rest) = exponent(rest)?;
    let decimal = Decimal {
        negative: unsigned.len() < text.len(),
        whole,
        fraction,
        exponent,
    };
    Ok((decimal, rest))
}

/// Writes sign, exponent of the first significant digit, and the significant digits.
fn write(decimal: &Decimal<'_>, out: &mut Vec<u8>) -> Result<(), Unkeyed> {
    let whole = trim_start(decimal.whole);
    let fraction = if whole.is_empty() {
        trim_start(decimal.fraction)
    } else {
        decimal.fraction
    };
    out.push(if decimal.negative { b'-' } else { b'+' });
    out.extend_from_slice(&first_digit(decimal, whole, fraction)?.to_be_bytes());
    let digits = out.len();
    out.extend_from_slice(whole);
    out.extend_from_slice(fraction);
    while out.len() > digits && out.last() == Some(&b'0') {
        out.pop();
    }
    out.push(b';');
    Ok(())
}

/// Returns the decimal exponent of the first significant digit, 0 for zero; `whole` and `fraction` start with that digit.
fn first_digit(decimal: &Decimal<'_>, whole: &[u8], fraction: &[u8]) -> Result<i16, Unkeyed> {
    if whole.is_empty() && fraction.is_empty() {
        return Ok(0);
    }
    let places = if whole.is_empty() {
        i16::try_from(decimal.fraction.len() - fraction.len()).map(|zeros| -1 - zeros)
    } else {
        i16::try_from(whole.len() - 1)
    };
    let exponent = places
        .ok()
        .and_then(|places| places.checked_add(decimal.exponent));
    exponent
        .filter(|exponent| EXPONENTS.contains(exponent))
        .ok_or(Unkeyed::NumberRange)
}

fn whole(text: &[u8]) -> Result<(&[u8], &[u8]), Unkeyed> {
    match digits(text) {
        ([] | [b'0', _, ..], _) => Err(Unkeyed::InvalidJson),
        parts => Ok(parts),
    }
}

fn fraction(text: &[u8]) -> Result<(&[u8], &[u8]), Unkeyed> {
    let Some(text) = text.strip_prefix(b".") else {
        return Ok((&[], text));
    };
    match digits(text) {
        ([], _) => Err(Unkeyed::InvalidJson),
        parts => Ok(parts),
    }
}

fn exponent(text: &[u8]) -> Result<(i16, &[u8]), Unkeyed> {
    let [b'e' | b'E', text @ ..] = text else {
        return Ok((0, text));
    };
    let (sign, text) = match text {
        [b'-', text @ ..] => (-1, text),
        [b'+', text @ ..] => (1, text),
        _ => (1, text),
    };
    let (digits, rest) = digits(text);
    if digits.is_empty() {
        return Err(Unkeyed::InvalidJson);
    }
    let size = digits.iter().fold(0_i16, |size, digit| {
        size.saturating_mul(10)
            .saturating_add(i16::from(digit - b'0'))
    });
    let exponent = sign * size;
    EXPONENTS
        .contains(&exponent)
        .then_some((exponent, rest))
        .ok_or(Unkeyed::NumberRange)
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    text.split_at(len)
}

fn trim_start(mut digits: &[u8]) -> &[u8] {
    while let [b'0', rest @ ..] = digits {
        digits = rest;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> Result<Vec<u8>, Unkeyed> {
        let mut out = Vec::new();
        let rest = decode(text.as_bytes(), &mut out)?;
        assert_eq!(rest, b"", "{text}");
        Ok(out)
    }

    #[test]
    fn spellings_of_one_number_are_one() {
        let spellings: [&[&str]; 8] = [
            &[
                "1", "1.0", "1e0", "1E0", "1e+0", "1e-0", "10e-1", "0.1e1", "0.01e2", "1.000e00",
                "100e-2",
            ],
            &["0", "0.0", "0e0", "0e5", "0.000e-300", "0e300"],
            &["-0", "-0.0", "-0e1", "-0.000"],
            &["-1.5", "-15e-1", "-0.15e1", "-1.50"],
            &["120", "12e1", "1.2e2", "120.0", "0.12e3", "1200e-1"],
            &["0.0012", "12e-4", "1.2e-3", "0.00120", "0.12e-2"],
            &[
                "9007199254740993",
                "9007199254740993.0",
                "9007199254740.993e3",
            ],
            &["1e300", "10e299", "100000e295", "1000e297"],
        ];
        let mut forms = Vec::new();
        for group in spellings {
            let form = canonical(group[0]).unwrap();
            for spelling in group {
                assert_eq!(
                    canonical(spelling).as_ref(),
                    Ok(&form),
                    "{spelling} is {}",
                    group[0]
                );
            }
            forms.push(form);
        }
        forms.sort();
        forms.dedup();
        assert_eq!(
            forms.len(),
            spellings.len(),
            "and different numbers are different"
        );
    }

    #[test]
    fn neighbours_that_a_float_confuses_are_kept_apart() {
        let pairs = [
            ("9007199254740992", "9007199254740993", "2^53"),
            ("18446744073709551616", "18446744073709551617", "2^64"),
            (
                "0.1",
                "0.1000000000000000055511151231257827",
                "the float nearest to 0.1",
            ),
            ("0.1", "0.1001", "quantised by some gateways"),
            ("0.1001", "0.10009", "quantised by some gateways"),
            ("0", "-0", "signed zero"),
            ("1", "10", "scale"),
            ("0.1", "0.01", "scale"),
            ("12", "1.2", "scale"),
            ("1", "-1", "sign"),
            ("101", "11", "inner zeros"),
        ];
        for (a, b, why) in pairs {
            assert_ne!(
                canonical(a).unwrap(),
                canonical(b).unwrap(),
                "{why}: {a} {b}"
            );
        }
    }

    #[test]
    fn numbers_that_may_overflow_are_refused() {
        let nines = "9".repeat(400);
        let tiny = format!("0.{}1", "0".repeat(400));
        let long = format!("1{}", "0".repeat(70_000));
        let cases = [
            "1e400",
            "1e-400",
            "-1e400",
            "1e301",
            "10e300",
            "0.01e-299",
            "1e99999999999999999999",
            "0e400",
            "0e-400",
            "1e-99999999999999999999",
            &nines,
            &tiny,
            &long,
        ];
        for text in cases {
            assert_eq!(canonical(text), Err(Unkeyed::NumberRange), "{text:.20}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "", "-", "01", "-01", "00", "1.", "1.e1", ".5", "-.5", "1e", "1e+", "1e-", "1E", "+1",
            "-I", "--1",
        ] {
            assert_eq!(canonical(text), Err(Unkeyed::InvalidJson), "{text}");
        }
    }
}
