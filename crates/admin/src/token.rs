//! The bearer token that calls must bring which change something.
//!
//! It lies in a file that only its owner can read; whoever can read it may as well stop the process. It is made once
//! and kept, so that scripts go on working over a restart.

use std::fs::{self, DirBuilder, OpenOptions};
use std::hint::black_box;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Name of the file in the state folder.
const FILE: &str = "admin-token";
/// Random bytes in a token.
const RANDOM_BYTES: usize = 32;
/// Fewer characters than this are no token of ours, and could be guessed.
const SHORTEST: usize = 32;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The folder or file cannot be made, written or read.
    #[error("{path}: cannot {action}: {source}; give a folder you may write to with --state-dir")]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// There is no token.
    #[error("{path}: there is no admin token; name the gateway's own --state-dir")]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// Others can read the file.
    #[error(
        "{path}: its mode is {mode:03o}, others could read the admin token; run chmod 600 on it, or delete it and a new one is made"
    )]
    Mode {
        /// Which file.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
    },
    /// It is no regular file.
    #[error("{path}: is no regular file; remove it and a new one is made")]
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// The file holds no token.
    #[error(
        "{path}: holds no admin token ({SHORTEST} or more visible ASCII characters); delete it and a new one is made"
    )]
    Content {
        /// Which file.
        path: PathBuf,
    },
    /// The system gives no random bytes.
    #[error("no random bytes for an admin token: {0}")]
    Random(getrandom::Error),
}

/// A secret; not printed by `Debug`.
pub struct Token {
    text: String,
    path: PathBuf,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Token").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Token {
    /// Reads the token in `folder`, or makes the folder (0700) and the file (0600) where they are missing. Several
    /// processes may do so at once; all get the same token.
    ///
    /// # Errors
    /// See [`TokenError`]; each says what to do.
    pub fn load_or_create(folder: &Path) -> Result<Self, TokenError> {
        let failed = |path: &Path, action| {
            let path = path.to_owned();
            move |source| TokenError::Io { path, action, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed(folder, "make the folder"))?;
        let path = folder.join(FILE);
        if !fs::exists(&path).map_err(failed(&path, "look for the file"))? {
            create(folder, &path)?;
        }
        Self::load(folder)
    }

    /// Reads the token in `folder`, for who calls a gateway; makes none, as the gateway would not know it.
    ///
    /// # Errors
    /// See [`TokenError`]; each says what to do.
    pub fn load(folder: &Path) -> Result<Self, TokenError> {
        let path = folder.join(FILE);
        let failed = |path: &Path, action| {
            let path = path.to_owned();
            move |source| TokenError::Io { path, action, source }
        };
        if !fs::exists(&path).map_err(failed(&path, "look for the file"))? {
            return Err(TokenError::Missing { path });
        }
        let metadata = fs::symlink_metadata(&path).map_err(failed(&path, "look at the file"))?;
        if !metadata.is_file() {
            return Err(TokenError::NotAFile { path });
        }
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(TokenError::Mode { path, mode });
        }
        let text = fs::read_to_string(&path).map_err(failed(&path, "read the file"))?.trim().to_owned();
        if text.len() < SHORTEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Content { path });
        }
        Ok(Self { text, path })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The text, to be sent as `Authorization: Bearer`. Never to be logged.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// Whether `given` is the token, in a time that depends on the lengths alone.
    pub fn matches(&self, given: &[u8]) -> bool {
        let own = self.text.as_bytes();
        let difference = own.iter().zip(given).fold(0u8, |all, (one, other)| black_box(all | (one ^ other)));
        own.len() == given.len() && difference == 0
    }
}

/// Writes a new token beside `path` and links it there: the file is never seen half written, and of several processes
/// the first wins.
fn create(folder: &Path, path: &Path) -> Result<(), TokenError> {
    let text = random_text()?;
    let beside = folder.join(format!(".{FILE}.{}", text.get(..8).unwrap_or_default()));
    let failed = |action| {
        let path = beside.clone();
        move |source| TokenError::Io { path, action, source }
    };
    // The name beside must not tell the beginning of the secret.
    let secret = random_text()?;
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).map_err(failed("make the file"))?;
    file.write_all(secret.as_bytes()).and_then(|()| file.write_all(b"\n")).map_err(failed("write the file"))?;
    let linked = fs::hard_link(&beside, path);
    fs::remove_file(&beside).map_err(failed("remove the file"))?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(TokenError::Io { path: path.to_owned(), action: "make the file", source: error })
        }
        _ => Ok(()),
    }
}

fn random_text() -> Result<String, TokenError> {
    let mut bytes = [0u8; RANDOM_BYTES];
    getrandom::fill(&mut bytes).map_err(TokenError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn it_is_made_once_for_its_owner_alone() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a/b");
        let token = Token::load_or_create(&folder).unwrap();
        assert_eq!((mode(&folder), mode(token.path())), (0o700, 0o600));
        assert_eq!(token.reveal().len(), 64);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
        assert!(matches!(Token::load(parent.path()), Err(TokenError::Missing { .. })), "a caller makes none");
        assert_eq!(Token::load(&folder).unwrap().reveal(), token.reveal());
        let again = Token::load_or_create(&folder).unwrap();
        assert_eq!(token.reveal(), again.reveal());
        let elsewhere = Token::load_or_create(&parent.path().join("c")).unwrap();
        assert_ne!(token.reveal(), elsewhere.reveal());
        assert!(!format!("{token:?}").contains(token.reveal()));
    }

    #[test]
    fn processes_that_start_together_agree() {
        let folder = tempfile::tempdir().unwrap();
        let tokens: Vec<String> = std::thread::scope(|scope| {
            let start = || scope.spawn(|| Token::load_or_create(folder.path()).unwrap().reveal().to_owned());
            let threads: Vec<_> = (0..8).map(|_| start()).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(tokens.iter().all(|token| Some(token) == tokens.first()));
    }

    #[test]
    fn a_file_that_others_can_read_or_that_holds_nothing_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = Token::load_or_create(folder.path()).unwrap().path().to_owned();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Token::load_or_create(folder.path()).unwrap_err().to_string();
        assert!(error.contains("644") && error.contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for content in ["", "short\n", &"with space ".repeat(9)] {
            fs::write(&path, content).unwrap();
            assert!(matches!(Token::load_or_create(folder.path()), Err(TokenError::Content { .. })), "{content:?}");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(Token::load_or_create(folder.path()), Err(TokenError::NotAFile { .. })));
    }

    #[test]
    fn only_the_whole_token_matches() {
        let folder = tempfile::tempdir().unwrap();
        let token = Token::load_or_create(folder.path()).unwrap();
        let text = token.reveal().as_bytes();
        assert!(token.matches(text));
        let mut other = text.to_vec();
        other[63] ^= 1;
        assert!(!token.matches(&other));
        assert!(!token.matches(&text[..63]));
        assert!(!token.matches(&[text, b"0"].concat()));
        assert!(!token.matches(b""));
    }
}
