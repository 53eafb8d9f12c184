//! Token arithmetic. A balance always satisfies available + held + spent = granted.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A number of tokens.
pub type Tokens = u64;

/// One user's account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// May be spent.
    pub available: Tokens,
    /// Set aside for jobs that are not settled yet.
    pub held: Tokens,
    /// Paid for pictures.
    pub spent: Tokens,
    /// All that was ever granted.
    pub granted: Tokens,
    /// Jobs that are not settled yet.
    pub inflight: u64,
}

/// Why the balance refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LedgerError {
    /// The price is more than what is available.
    #[error("the price is {price} tokens and {available} are available")]
    Insufficient {
        /// The asked price.
        price: Tokens,
        /// What is available.
        available: Tokens,
    },
    /// As many jobs as the user may have are unsettled.
    #[error("{inflight} jobs are in flight, {max} are allowed")]
    TooManyInflight {
        /// Unsettled now.
        inflight: u64,
        /// Allowed.
        max: u64,
    },
    /// More would be settled than is held: the books are wrong.
    #[error("{cost} tokens were to be settled and {held} are held")]
    NotHeld {
        /// To be settled.
        cost: Tokens,
        /// Held.
        held: Tokens,
    },
    /// The number of tokens does not fit in 64 bits.
    #[error("the number of tokens does not fit in 64 bits")]
    Overflow,
}

impl Balance {
    /// Sets `price` aside for one more job.
    ///
    /// # Errors
    /// [`LedgerError::TooManyInflight`], [`LedgerError::Insufficient`]; [`LedgerError::Overflow`] of wrong books.
    pub fn hold(self, price: Tokens, inflight_max: u64) -> Result<Self, LedgerError> {
        if self.inflight >= inflight_max {
            return Err(LedgerError::TooManyInflight { inflight: self.inflight, max: inflight_max });
        }
        let available = self
            .available
            .checked_sub(price)
            .ok_or(LedgerError::Insufficient { price, available: self.available })?;
        let held = self.held.checked_add(price).ok_or(LedgerError::Overflow)?;
        let inflight = self.inflight.checked_add(1).ok_or(LedgerError::Overflow)?;
        Ok(Self { available, held, inflight, ..self })
    }

    /// Sets the prices of a whole batch aside. Its jobs are not in flight: the hold bounds them.
    ///
    /// # Errors
    /// [`LedgerError::Insufficient`]; [`LedgerError::Overflow`] of wrong books.
    pub fn hold_batch(self, price: Tokens) -> Result<Self, LedgerError> {
        let inflight = self.inflight;
        Ok(Self { inflight, ..Self { inflight: 0, ..self }.hold(price, 1)? })
    }

    /// Ends the hold of one job, of `cost`.
    ///
    /// # Errors
    /// [`LedgerError::NotHeld`] when no such hold can be there; [`LedgerError::Overflow`] of wrong books.
    pub fn settle(self, cost: Tokens, settlement: Settlement) -> Result<Self, LedgerError> {
        let not_held = LedgerError::NotHeld { cost, held: self.held };
        let inflight = self.inflight.checked_sub(1).ok_or(not_held)?;
        Self { inflight, ..self }.settle_in_batch(cost, settlement)
    }

    /// Ends the hold of a batch's job, or what a batch itself holds.
    ///
    /// # Errors
    /// [`LedgerError::NotHeld`] when no such hold can be there; [`LedgerError::Overflow`] of wrong books.
    pub fn settle_in_batch(self, cost: Tokens, settlement: Settlement) -> Result<Self, LedgerError> {
        let held = self.held.checked_sub(cost).ok_or(LedgerError::NotHeld { cost, held: self.held })?;
        let settled = Self { held, ..self };
        match settlement {
            Settlement::Captured => {
                Ok(Self { spent: self.spent.checked_add(cost).ok_or(LedgerError::Overflow)?, ..settled })
            }
            Settlement::Refunded => Ok(Self {
                available: self.available.checked_add(cost).ok_or(LedgerError::Overflow)?,
                ..settled
            }),
        }
    }

    /// Adds granted tokens.
    ///
    /// # Errors
    /// [`LedgerError::Overflow`].
    pub fn grant(self, tokens: Tokens) -> Result<Self, LedgerError> {
        Ok(Self {
            available: self.available.checked_add(tokens).ok_or(LedgerError::Overflow)?,
            granted: self.granted.checked_add(tokens).ok_or(LedgerError::Overflow)?,
            ..self
        })
    }

    /// available + held + spent = granted.
    pub fn is_balanced(self) -> bool {
        self.available.checked_add(self.held).and_then(|sum| sum.checked_add(self.spent))
            == Some(self.granted)
    }
}

/// How a job's hold ended. It ends once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settlement {
    /// The picture was paid for.
    Captured,
    /// The tokens went back.
    Refunded,
}

impl Settlement {
    /// As records and callers see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Captured => "captured",
            Self::Refunded => "refunded",
        }
    }

    /// Parses the stored word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Captured, Self::Refunded].into_iter().find(|settlement| settlement.as_str() == text)
    }
}

/// What the books of one user say, gathered from balance, entries and jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Books {
    /// The stored balance.
    pub balance: Balance,
    /// Sum of the grant entries.
    pub grants: Tokens,
    /// Sum of the capture entries.
    pub captures: Tokens,
    /// Sum of the prices of jobs that are not settled, and of what batches hold for lines that are no jobs.
    pub unsettled: Tokens,
    /// Number of jobs that are not settled, without those of batches.
    pub unsettled_jobs: u64,
}

impl Books {
    /// Everything that does not add up (I1), in words; empty when the books balance.
    pub fn faults(&self) -> Vec<String> {
        let b = self.balance;
        let mut faults = Vec::new();
        let mut check = |holds: bool, text: String| {
            if !holds {
                faults.push(text);
            }
        };
        check(
            b.is_balanced(),
            format!(
                "available {} + held {} + spent {} is not granted {}",
                b.available, b.held, b.spent, b.granted
            ),
        );
        check(
            b.granted == self.grants,
            format!("granted {} but the grant entries sum to {}", b.granted, self.grants),
        );
        check(
            b.spent == self.captures,
            format!("spent {} but the capture entries sum to {}", b.spent, self.captures),
        );
        check(
            b.held == self.unsettled,
            format!("held {} but unsettled jobs and batches cost {}", b.held, self.unsettled),
        );
        check(
            b.inflight == self.unsettled_jobs,
            format!("in flight {} but {} jobs are unsettled", b.inflight, self.unsettled_jobs),
        );
        faults
    }
}
