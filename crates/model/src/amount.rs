//! Amounts of resources as Kubernetes writes them: `500m`, `1.5`, `512Mi`, `1e3`, `2Gi`.
//!
//! An amount is exact to a billionth; what is finer is rounded away from zero, as Kubernetes does it. Docker's sizes and
//! CPU counts are in [`crate::quantity`].

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Error, Result};

const NANOS: i128 = 1_000_000_000;
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

/// In which units an amount is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Form {
    /// `k`, `M`, `m`, …
    #[default]
    Decimal,
    /// `Ki`, `Mi`, …
    Binary,
    /// `e3`, `E6`.
    Exponent,
}

/// An amount of a resource.
#[derive(Clone, Copy, Debug, Default)]
pub struct Amount {
    nanos: i128,
    form: Form,
}

impl Amount {
    /// A whole number of bytes, written in binary units.
    #[must_use]
    pub fn bytes(bytes: i64) -> Self {
        Self { nanos: i128::from(bytes) * NANOS, form: Form::Binary }
    }

    /// Thousandths, written in decimal units.
    #[must_use]
    pub fn milli(milli: i64) -> Self {
        Self { nanos: i128::from(milli) * (NANOS / 1000), form: Form::Decimal }
    }

    /// Reads an amount.
    ///
    /// # Errors
    /// `Invalid`, with what an amount looks like as the hint.
    pub fn parse(text: &str) -> Result<Self> {
        parse(text).ok_or_else(|| {
            Error::invalid(format!("{text:?} is not an amount"))
                .with_hint("an amount is a number with a unit such as 500m, 1.5, 64Mi or 2G")
        })
    }

    /// The amount in whole units, rounded up.
    #[must_use]
    pub fn value(self) -> i64 {
        saturated(ceil(self.nanos, NANOS))
    }

    /// The amount in thousandths, rounded up.
    #[must_use]
    pub fn in_milli(self) -> i64 {
        saturated(ceil(self.nanos, NANOS / 1000))
    }

    /// How many `unit`s it takes to have this amount, rounded up; none for a unit of nothing.
    #[must_use]
    pub fn per(self, unit: Self) -> Option<i64> {
        (unit.nanos > 0).then(|| saturated(ceil(self.nanos, unit.nanos)))
    }

    /// Whether it is nothing.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether it is less than nothing.
    #[must_use]
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }
}

impl PartialEq for Amount {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Amount {}

impl PartialOrd for Amount {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Amount {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// The canonical form: no fraction, the largest unit that leaves none.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos % NANOS == 0;
        let units = self.nanos / NANOS;
        if self.form == Form::Binary && whole && units.abs() >= 1024 {
            let (unit, shift) =
                BINARY.iter().rev().find(|(_, shift)| units % (1 << shift) == 0).unwrap_or(&("", 0));
            return write!(f, "{}{unit}", units >> shift);
        }
        let mut exponent = -9_i32;
        let mut number = self.nanos;
        while number % 1000 == 0 && exponent < 18 {
            number /= 1000;
            exponent += 3;
        }
        if self.form == Form::Binary && exponent > 0 {
            return write!(f, "{units}");
        }
        if self.form == Form::Exponent {
            return if exponent == 0 { write!(f, "{number}") } else { write!(f, "{number}e{exponent}") };
        }
        let unit = DECIMAL.iter().find(|(_, e)| *e == exponent).map_or("", |u| u.0);
        write!(f, "{number}{unit}")
    }
}

fn parse(text: &str) -> Option<Amount> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, unit) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    // More digits than these are beyond what can be told apart, before and behind the point.
    if whole.trim_start_matches('0').len() > 19 {
        return None;
    }
    let fraction = fraction.get(..fraction.len().min(12))?;
    let mantissa: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let scale = -i32::try_from(fraction.len()).ok()?;
    let (factor, exponent, form) = unit_of(unit)?;
    let nanos = scaled(mantissa.checked_mul(factor)?, scale + exponent + 9)?;
    let nanos = nanos.min(i128::from(i64::MAX) * NANOS);
    Some(Amount { nanos: if text.starts_with('-') { -nanos } else { nanos }, form })
}

/// What a unit multiplies by: a factor, a power of ten, and the form that it belongs to.
fn unit_of(unit: &str) -> Option<(i128, i32, Form)> {
    if let Some((_, shift)) = BINARY.iter().find(|(name, _)| *name == unit) {
        return Some((1 << shift, 0, Form::Binary));
    }
    if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == unit) {
        return Some((1, *exponent, Form::Decimal));
    }
    let exponent: i32 = unit.strip_prefix(['e', 'E'])?.parse().ok()?;
    (exponent.abs() <= 30).then_some((1, exponent, Form::Exponent))
}

/// `number * 10^exponent`, rounded up.
fn scaled(number: i128, exponent: i32) -> Option<i128> {
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    if exponent >= 0 { number.checked_mul(power) } else { Some(ceil(number, power)) }
}

/// The quotient away from zero.
fn ceil(number: i128, by: i128) -> i128 {
    let up = i128::from(number % by != 0);
    if number < 0 { number / by - up } else { number / by + up }
}

fn saturated(number: i128) -> i64 {
    i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount such as 500m, 1.5, 64Mi or 2G")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Amount, E> {
                parse(text.trim()).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> std::result::Result<Amount, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> std::result::Result<Amount, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> std::result::Result<Amount, E> {
                self.visit_str(&number.to_string())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_and_print_canonically() {
        for (text, value, milli, printed) in [
            ("0", 0, 0, "0"),
            ("1", 1, 1000, "1"),
            ("500m", 1, 500, "500m"),
            ("0.5", 1, 500, "500m"),
            ("1.5", 2, 1500, "1500m"),
            ("2000m", 2, 2000, "2"),
            ("64Mi", 64 << 20, 64_000 << 20, "64Mi"),
            ("1024Ki", 1 << 20, 1000 << 20, "1Mi"),
            ("1.5Gi", 3 << 29, 3000 << 29, "1536Mi"),
            ("1000Ki", 1_024_000, 1_024_000_000, "1000Ki"),
            ("100", 100, 100_000, "100"),
            ("128974848", 128_974_848, 128_974_848_000, "128974848"),
            ("129e6", 129_000_000, 129_000_000_000, "129e6"),
            ("129M", 129_000_000, 129_000_000_000, "129M"),
            ("12e3", 12_000, 12_000_000, "12e3"),
            ("100n", 1, 1, "100n"),
            ("-1", -1, -1000, "-1"),
            (".5", 1, 500, "500m"),
            ("+2k", 2000, 2_000_000, "2k"),
        ] {
            let amount = Amount::parse(text).unwrap();
            assert_eq!((amount.value(), amount.in_milli()), (value, milli), "{text}");
            assert_eq!(amount.to_string(), printed, "{text}");
        }
        for bad in ["", "x", "1x", "1.2.3", "Mi", "1 Mi", "1mi", "1e", "--1", "99999999999999999999"] {
            assert!(Amount::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_made_prints_as_kubernetes_prints_it() {
        assert_eq!(Amount::bytes(536_870_912).to_string(), "512Mi");
        assert_eq!(Amount::bytes(1000).to_string(), "1000");
        assert_eq!(Amount::bytes(1500).to_string(), "1500");
        assert_eq!(Amount::bytes(2_000_000).to_string(), "2000000");
        assert_eq!(Amount::milli(2500).to_string(), "2500m");
        assert_eq!(Amount::milli(3000).to_string(), "3");
    }

    #[test]
    fn a_share_is_rounded_up() {
        let mebi = Amount::parse("1Mi").unwrap();
        assert_eq!(Amount::parse("64Mi").unwrap().per(mebi), Some(64));
        assert_eq!(Amount::parse("65M").unwrap().per(mebi), Some(62));
        assert_eq!(Amount::parse("250m").unwrap().per(Amount::parse("1").unwrap()), Some(1));
        assert_eq!(Amount::parse("1").unwrap().per(Amount::default()), None);
    }
}
