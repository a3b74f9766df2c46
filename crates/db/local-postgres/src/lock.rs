//! One process at a time in a folder with data that survives.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use crate::Error;

/// Keeps a second process out until it is dropped or this one ends, however it ends.
pub(crate) struct Lock(File);

impl Drop for Lock {
    /// Closing the file alone would leave the lock to a child that another thread has just forked, until it is the
    /// program it is meant to be.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// Locks the folder as soon as nobody else has it.
pub(crate) fn wait_for(home: &Path) -> Result<Lock, Error> {
    let path = home.join("lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    file.and_then(|file| file.lock().map(|()| Lock(file)))
        .map_err(|error| Error::because(format_args!("cannot lock {}", path.display()), error))
}

/// Locks the folder. The error names the process that has it.
pub(crate) fn lock(home: &Path) -> Result<Lock, Error> {
    let path = home.join("lock");
    let fail = |error| Error::because(format_args!("cannot lock {}", path.display()), error);
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(fail)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)
                .and_then(|()| write!(file, "{}", std::process::id()))
                .map_err(fail)?;
            Ok(Lock(file))
        }
        Err(fs::TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            Err(Error::new(format!(
                "the database in {} is in use by process {holder}: stop that one first",
                home.display()
            )))
        }
        Err(fs::TryLockError::Error(error)) => Err(fail(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Account;
    use crate::folder::Folder;

    /// What a child has of a file between its fork and its program is what this copy is: the same lock.
    #[test]
    fn a_lock_ends_with_its_holder_whoever_else_has_the_file() -> Result<(), Error> {
        let home = Folder::create(&Account::find()?)?;
        let first = lock(home.path())?;
        let copy = first.0.try_clone();
        assert!(lock(home.path()).is_err(), "one holder at a time");
        drop(first);
        lock(home.path())?;
        drop(copy);
        Ok(())
    }
}
