//! Decimal arithmetic as the math nodes do it: 20 significant digits, halves rounded away from zero. Intermediate
//! values carry more digits, so that a result is rounded once.

use std::cmp::Ordering;
use std::str::FromStr;

use dashu_float::DBig;
use dashu_float::round::mode::Zero;

/// Digits that a result keeps.
const DIGITS: usize = 20;
/// Digits of intermediate values: enough that the error of raising to the largest possible power, below 10^32, stays
/// far beyond the digits that are kept.
const GUARDED: usize = 90;
/// Decimal exponents beyond this count as infinite or as zero.
const MAX_EXPONENT: f64 = 9e15;

/// Whole exponents below this are reached by squaring; 2^120.
const MAX_SQUARED: f64 = 1_329_227_995_784_915_872_903_807_060_280_344_576.0;

/// A decimal number. Always finite.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Decimal(DBig);

/// What is wrong with a calculation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Undefined {
    #[error("division by zero")]
    DivisionByZero,
    #[error("a negative number has no power with a fractional exponent")]
    NegativeBase,
    #[error("the result is not finite")]
    NotFinite,
    #[error("a logarithm needs a positive number")]
    Logarithm,
    #[error("a logarithm needs a positive base other than 1")]
    LogarithmBase,
}

impl Decimal {
    /// The decimal number that a double's shortest text shows. NaN and the infinities are `None`.
    pub fn new(number: f64) -> Option<Decimal> {
        if !number.is_finite() {
            return None;
        }
        // The exponent form keeps the text short; a double's text is always a decimal number.
        DBig::from_str(&format!("{number:e}")).ok().map(Decimal)
    }

    /// The nearest double; infinite when the number is beyond all doubles.
    pub fn to_f64(&self) -> f64 {
        let repr = self.0.repr();
        format!("{}e{}", repr.significand(), repr.exponent()).parse().unwrap_or(f64::NAN)
    }

    pub fn is_zero(&self) -> bool {
        self.0 == DBig::ZERO
    }

    pub fn is_negative(&self) -> bool {
        self.0 < DBig::ZERO
    }

    pub fn is_integer(&self) -> bool {
        // A double's digits end in no zeros, so a fraction shows as a negative exponent.
        self.0.repr().exponent() >= 0
    }

    pub fn floor(&self) -> Decimal {
        Decimal(self.0.floor())
    }

    pub fn abs(&self) -> Decimal {
        if self.is_negative() { Decimal(-self.0.clone()) } else { self.clone() }
    }

    pub fn add(&self, other: &Decimal) -> Decimal {
        rounded(self.guarded() + other.guarded())
    }

    pub fn subtract(&self, other: &Decimal) -> Decimal {
        rounded(self.guarded() - other.guarded())
    }

    pub fn multiply(&self, other: &Decimal) -> Decimal {
        rounded(self.guarded() * other.guarded())
    }

    pub fn divide(&self, other: &Decimal) -> Result<Decimal, Undefined> {
        if other.is_zero() {
            return Err(Undefined::DivisionByZero);
        }
        Ok(rounded(self.guarded() / other.guarded()))
    }

    /// What is left after whole divisions; has the sign of `self`.
    pub fn modulo(&self, other: &Decimal) -> Result<Decimal, Undefined> {
        if other.is_zero() {
            return Err(Undefined::DivisionByZero);
        }
        let left = self.guarded().with_rounding::<Zero>() % other.guarded().with_rounding::<Zero>();
        Ok(rounded(left.with_rounding()))
    }

    pub fn power(&self, exponent: &Decimal) -> Result<Decimal, Undefined> {
        if exponent.is_zero() || self.0 == DBig::ONE {
            return Ok(Decimal(DBig::ONE));
        }
        if self.is_zero() {
            return if exponent.is_negative() { Err(Undefined::NotFinite) } else { Ok(self.clone()) };
        }
        if self.is_negative() && !exponent.is_integer() {
            return Err(Undefined::NegativeBase);
        }
        // How large the result gets, so that nothing is computed for the bin. Near 1 the double's logarithm is
        // off by a part in 10^16, which no limit of 9e15 feels.
        let size = self.abs().to_f64().log10() * exponent.to_f64();
        if size > MAX_EXPONENT {
            return Err(Undefined::NotFinite);
        }
        if size < -MAX_EXPONENT {
            return Ok(Decimal(DBig::ZERO));
        }
        let count = exponent.abs().to_f64();
        if !exponent.is_integer() || count >= MAX_SQUARED {
            let magnitude = (self.abs().guarded().ln() * exponent.guarded()).exp();
            return Ok(rounded(magnitude)); // doubles as large as MAX_SQUARED are even
        }
        let power = squared_up(self.guarded(), count as u128);
        Ok(rounded(if exponent.is_negative() { DBig::ONE.with_precision(GUARDED).value() / power } else { power }))
    }

    /// Natural logarithm of a positive number.
    pub fn logarithm(&self) -> Result<Decimal, Undefined> {
        if self.is_zero() || self.is_negative() {
            return Err(Undefined::Logarithm);
        }
        Ok(rounded(self.guarded().ln()))
    }

    /// Logarithm to a base.
    pub fn logarithm_to(&self, base: &Decimal) -> Result<Decimal, Undefined> {
        let base = base.logarithm().map_err(|_| Undefined::LogarithmBase)?;
        if base.is_zero() {
            return Err(Undefined::LogarithmBase);
        }
        self.logarithm()?.divide(&base)
    }

    fn guarded(&self) -> DBig {
        self.0.clone().with_precision(GUARDED).value()
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Decimal) -> Option<Ordering> {
        self.0.partial_cmp(&other.0)
    }
}

fn rounded(number: DBig) -> Decimal {
    Decimal(number.with_precision(DIGITS).value())
}

/// A power by squaring; `count` is at least 1.
fn squared_up(base: DBig, count: u128) -> DBig {
    let mut result = DBig::ONE.with_precision(GUARDED).value();
    for bit in (0..128 - count.leading_zeros()).rev() {
        result = &result * &result;
        if count >> bit & 1 == 1 {
            result = &result * &base;
        }
    }
    result
}
