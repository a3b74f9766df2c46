//! Making cargo compile a file anew.

use std::fs::File;
use std::path::Path;
use std::time::SystemTime;

use crate::output::Result;

/// A source file that looks changed to cargo, so that its macros expand anew. Dropped, it has its old time again, unless
/// somebody has saved it meanwhile: the other builds of the same file stay valid.
pub(crate) struct Touched {
    file: File,
    before: SystemTime,
    touched: SystemTime,
}

impl Touched {
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let file = File::options().append(true).open(path)?;
        let before = file.metadata()?.modified()?;
        file.set_modified(SystemTime::now())?;
        // As the file system has rounded it.
        let touched = file.metadata()?.modified()?;
        Ok(Self {
            file,
            before,
            touched,
        })
    }
}

impl Drop for Touched {
    fn drop(&mut self) {
        let modified = self
            .file
            .metadata()
            .and_then(|metadata| metadata.modified());
        if modified.is_ok_and(|modified| modified == self.touched) {
            let _ = self.file.set_modified(self.before);
        }
    }
}
