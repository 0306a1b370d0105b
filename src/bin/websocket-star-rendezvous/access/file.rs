//! Files with one entry a line.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// The largest file that is read, in bytes: more than a million peer ids.
const MAX_FILE: u64 = 64 * 1024 * 1024;
/// The mark that some editors write before the first line.
const BYTE_ORDER_MARK: &str = "\u{feff}";
const COMMENT: char = '#';

/// The reason why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot read {0}: it is not a file")]
    NotAFile(PathBuf),
    #[error("cannot read {0}: it has more than 64 MiB")]
    TooLarge(PathBuf),
    /// The message leaves out the content of the line, which may be a secret.
    #[error("{path}, line {line}: {problem}")]
    Line {
        path: PathBuf,
        line: usize,
        problem: &'static str,
    },
}

impl FileError {
    /// Returns whether the error may go away while the file stays the same.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Read { .. } | Self::NotAFile(_) => true,
            Self::TooLarge(_) | Self::Line { .. } => false,
        }
    }
}

/// The way in which comments are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comments {
    /// From `#` to the end of the line, anywhere in it.
    Anywhere,
    /// Only whole lines, which begin with `#`.
    WholeLines,
}

impl Comments {
    /// Returns the line without its comment and without the space around it.
    fn strip(self, line: &str) -> &str {
        let line = line.trim();
        match self {
            Self::Anywhere => line.split(COMMENT).next().unwrap_or_default().trim_end(),
            Self::WholeLines if line.starts_with(COMMENT) => "",
            Self::WholeLines => line,
        }
    }
}

/// Reads the entries of a file; empty lines are ignored.
///
/// # Errors
/// If the file cannot be read, or `parse` rejects a line; then the error has the number of the first such line.
pub fn read<C: FromIterator<T>, T>(
    path: &Path,
    comments: Comments,
    parse: impl Fn(&str) -> Result<T, &'static str>,
) -> Result<C, FileError> {
    let bytes = read_bytes(path)?;
    let lines = bytes.split(|byte| *byte == b'\n').zip(1..);
    let parsed = lines.filter_map(|(bytes, line)| {
        let text = std::str::from_utf8(bytes).map_err(|_| "this is not UTF-8");
        let parsed = text.and_then(|text| {
            let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
            match comments.strip(text) {
                "" => Ok(None),
                text => parse(text).map(Some),
            }
        });
        let problem = |problem| FileError::Line {
            path: path.to_owned(),
            line,
            problem,
        };
        parsed.map_err(problem).transpose()
    });
    parsed.collect()
}

/// Opens the file without blocking: opening a pipe would otherwise wait for ever.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    options.read(true).open(path)
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, FileError> {
    let failed = |source| FileError::Read {
        path: path.to_owned(),
        source,
    };
    let file = open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(FileError::NotAFile(path.to_owned()));
    }
    let mut bytes = Vec::new();
    let read = file.take(MAX_FILE + 1).read_to_end(&mut bytes);
    if read.map_err(failed)? as u64 > MAX_FILE {
        return Err(FileError::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(content: impl AsRef<[u8]>, comments: Comments) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("list");
        std::fs::write(&path, content).expect("written");
        let parse = |text: &str| match text {
            "bad" => Err("this is bad"),
            text => Ok(text.to_owned()),
        };
        let read = read(&path, comments, parse);
        let shown = |error: FileError| {
            let shown = error.to_string();
            shown.replace(path.to_str().expect("UTF-8"), "list")
        };
        read.map_err(shown)
    }

    #[test]
    fn there_is_one_thing_a_line_and_comments_between() {
        let content = "\u{feff}a\r\n\n  b \n# c\n\t# d\ne # f\ng#h";
        let found = lines(content, Comments::Anywhere);
        assert_eq!(found.expect("good"), ["a", "b", "e", "g"]);
        let found = lines(content, Comments::WholeLines);
        assert_eq!(found.expect("good"), ["a", "b", "e # f", "g#h"]);
        for content in ["", "\n", "# nothing"] {
            let found = lines(content, Comments::Anywhere);
            assert!(found.expect("good").is_empty());
        }
    }

    #[test]
    fn a_bad_line_is_told_by_its_number() {
        let error = |content: &[u8]| lines(content, Comments::Anywhere).expect_err("bad");
        assert_eq!(error(b"a\n#\nbad\nbad"), "list, line 3: this is bad");
        assert_eq!(error(b"a\n\xff"), "list, line 2: this is not UTF-8");
    }

    #[test]
    fn what_is_no_file_or_too_large_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let read = |path: &Path| read::<Vec<_>, _>(path, Comments::Anywhere, |_| Ok(()));
        let error = read(folder.path()).expect_err("a folder");
        assert!(matches!(error, FileError::NotAFile(_)), "{error}");
        let error = read(&folder.path().join("none")).expect_err("nothing");
        assert!(matches!(error, FileError::Read { .. }), "{error}");
        #[cfg(unix)]
        {
            let pipe = folder.path().join("pipe");
            let made = std::process::Command::new("mkfifo").arg(&pipe).status();
            assert!(made.expect("mkfifo").success());
            let error = read(&pipe).expect_err("a pipe");
            assert!(matches!(error, FileError::NotAFile(_)), "{error}");
        }
        let path = folder.path().join("large");
        let large = File::create(&path).expect("a file");
        large.set_len(MAX_FILE + 1).expect("it is sparse");
        let error = read(&path).expect_err("large");
        assert!(matches!(error, FileError::TooLarge(_)), "{error}");
    }
}
