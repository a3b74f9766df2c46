//! A connection in a transaction: how it enters and leaves one, and what it knows of it.

use crate::limits::Limits;
use crate::pool::condition::Condition;
use crate::pool::connection::Connection;
use crate::pool::in_transaction::{InTransaction, Patience};

impl Connection {
    /// Enters a transaction, before BEGIN is sent.
    pub(crate) fn enter_transaction(&mut self, read_only: bool, limits: &Limits) {
        let setting = self.pool().longest_pause();
        let begun = InTransaction::new(read_only, limits, setting);
        self.transaction = Some(Box::new(begun));
        self.condition = self.condition.max(Condition::InTransaction);
    }

    /// Leaves it, after COMMIT or ROLLBACK was answered.
    pub(crate) fn leave_transaction(&mut self) {
        if let Some(transaction) = self.transaction.take()
            && self.condition < Condition::Lent
        {
            self.condition = match transaction.changed {
                true => Condition::Changed,
                false => Condition::Clean,
            };
        }
    }

    /// Leaves it, with a rollback that is sent before the next statement.
    pub(crate) fn abandon_transaction(&mut self) {
        if let Some(transaction) = self.transaction.take() {
            let left = match transaction.changed {
                true => Condition::Changed,
                false => Condition::InTransaction,
            };
            self.condition = self.condition.max(left);
        }
    }

    /// What the first statement that failed in the transaction said.
    pub(crate) fn failure(&self) -> Option<String> {
        self.transaction.as_ref()?.failed.clone()
    }

    /// Whether the server may have ended the transaction already.
    pub(crate) fn is_transaction_doubtful(&self) -> bool {
        let state = self.transaction.as_ref();
        self.condition >= Condition::Lent
            || state.is_none_or(|state| state.failed.is_some() || state.changed || state.doubtful)
    }

    /// How long the next answer may take, in a transaction.
    pub(crate) fn patience(&self) -> Option<Patience> {
        let transaction = self.transaction.as_ref()?;
        Some(transaction.patience(self.socket_timeout))
    }
}
