//! The client's configuration: a flag wins over the environment, that over the file, that over the default.

mod arguments;
mod show;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use self::arguments::{Connection, Offline};
pub(super) use self::show::{Command, run};
use super::exit::{Exit, Failure};
use super::files;
use crate::tls::Files;

/// What the file may say. Paths are relative to its folder.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    url: Option<String>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    roots: Option<PathBuf>,
    lists: Option<PathBuf>,
    signing_cert: Option<PathBuf>,
    signing_key: Option<PathBuf>,
    log_key: Option<String>,
    state_dir: Option<PathBuf>,
    keys: Option<PathBuf>,
}

impl ConfigFile {
    fn read(path: &Path) -> Result<Option<Self>, Failure> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|error| files::at(path, &error))?,
        };
        let wrong = |error: toml::de::Error| {
            let message = error.message().to_owned();
            Failure::new(Exit::Usage, format!("`{}`: {message}", path.display()))
        };
        toml::from_str(&text).map(Some).map_err(wrong)
    }
}

/// Who said what a setting is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum Origin {
    /// A flag, or the environment in its place.
    Argument,
    /// The configuration file.
    File,
    /// Nobody.
    Default,
    /// It has no value.
    Unset,
}

/// One setting, for people who wonder where it came from.
#[derive(Clone, Debug, serde::Serialize)]
struct Setting {
    name: String,
    value: Option<String>,
    source: Origin,
}

/// The configuration that holds.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) url: String,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    roots: Option<PathBuf>,
    lists: Option<PathBuf>,
    signing_cert: Option<PathBuf>,
    signing_key: Option<PathBuf>,
    pub(crate) log_key: Option<String>,
    pub(crate) state: PathBuf,
    pub(crate) keys: PathBuf,
    /// Every setting with its origin, in the order of the documentation.
    explained: Vec<Setting>,
}

impl Settings {
    /// Puts the sources together for a command that needs no service.
    pub(crate) fn offline(offline: &Offline) -> Result<Self, Failure> {
        Self::resolve(&Connection {
            offline: offline.clone(),
            ..Connection::default()
        })
    }

    /// Puts the sources together.
    pub(crate) fn resolve(connection: &Connection) -> Result<Self, Failure> {
        let offline = &connection.offline;
        let path = match &offline.config {
            Some(path) => path.clone(),
            None => offline.base.config().join("config.toml"),
        };
        let file = match (ConfigFile::read(&path)?, &offline.config) {
            (Some(file), _) => file,
            (None, None) => ConfigFile::default(),
            (None, Some(path)) => {
                let missing = format!("`{}` is not there", path.display());
                return Err(Failure::new(Exit::Usage, missing));
            }
        };
        let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
        Ok(Self::pick(connection.clone(), file, &folder))
    }

    fn pick(given: Connection, file: ConfigFile, folder: &Path) -> Self {
        let offline = given.offline;
        let mut pick = Picker {
            folder,
            explained: Vec::new(),
        };
        let url = pick.text("url", given.url, file.url, Some(DEFAULT_URL));
        let cert = pick.path("cert", given.cert, file.cert, None);
        let key = pick.path("key", given.key, file.key, beside(cert.as_deref()));
        let roots = pick.path("roots", offline.roots, file.roots, None);
        let lists = pick.path("lists", offline.lists, file.lists, None);
        let signing_cert = pick.path("signing_cert", given.signing_cert, file.signing_cert, None);
        let beside_signing = beside(signing_cert.as_deref());
        let signing_key = pick.path(
            "signing_key",
            given.signing_key,
            file.signing_key,
            beside_signing,
        );
        let in_file = file.log_key.map(|key| match key.contains('+') {
            true => key,
            // A key has a `+`: this is a file that holds one.
            false => folder.join(key).display().to_string(),
        });
        let log_key = pick.text("log_key", given.log_key, in_file, None);
        let (state, keys) = (offline.base.state(), offline.base.config().join("keys"));
        let state = pick.path("state_dir", given.state_dir, file.state_dir, Some(state));
        let keys = pick.path("keys", offline.keys, file.keys, Some(keys));
        Self {
            url: url.unwrap_or_default(),
            cert,
            key,
            roots,
            lists,
            signing_cert,
            signing_key,
            log_key,
            state: state.unwrap_or_default(),
            keys: keys.unwrap_or_default(),
            explained: pick.explained,
        }
    }

    /// What TLS needs.
    pub(crate) fn tls(&self) -> Result<Files, Failure> {
        Ok(Files {
            chain: needed("cert", self.cert.as_ref())?,
            key: needed("key", self.key.as_ref())?,
            roots: needed("roots", self.roots.as_ref())?,
            lists: needed("lists", self.lists.as_ref())?,
        })
    }

    /// Roots and revocation lists.
    pub(crate) fn trust(&self) -> Result<(PathBuf, PathBuf), Failure> {
        let roots = needed("roots", self.roots.as_ref())?;
        Ok((roots, needed("lists", self.lists.as_ref())?))
    }

    /// Whether roots and revocation lists are named.
    pub(crate) fn has_trust(&self) -> bool {
        self.roots.is_some() && self.lists.is_some()
    }

    /// Signing chain and key.
    pub(crate) fn signing(&self) -> Result<(PathBuf, PathBuf), Failure> {
        let chain = needed("signing_cert", self.signing_cert.as_ref())?;
        Ok((chain, needed("signing_key", self.signing_key.as_ref())?))
    }
}

/// A failure that says how a setting is made.
pub(crate) fn missing(name: &str) -> Failure {
    let flag = name.replace('_', "-");
    Failure::new(Exit::Usage, format!("`{name}` is not configured")).hint(format!(
        "give `--{flag}`, set `COS_ESCROW_{}`, or write `{name} = …` in the configuration file",
        name.to_uppercase()
    ))
}

fn needed(name: &str, value: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    value.cloned().ok_or_else(|| missing(name))
}

/// `pki` puts the key of `north.tls.pem` into `north.tls.key`.
fn beside(chain: Option<&Path>) -> Option<PathBuf> {
    chain.map(|chain| chain.with_extension("key"))
}

/// Takes the first source that has a value, and keeps its name.
struct Picker<'a> {
    folder: &'a Path,
    explained: Vec<Setting>,
}

impl Picker<'_> {
    fn text(
        &mut self,
        name: &'static str,
        given: Option<String>,
        file: Option<String>,
        default: Option<&str>,
    ) -> Option<String> {
        self.first(
            name,
            [given, file, default.map(str::to_owned)],
            Clone::clone,
        )
    }

    fn path(
        &mut self,
        name: &'static str,
        given: Option<PathBuf>,
        file: Option<PathBuf>,
        default: Option<PathBuf>,
    ) -> Option<PathBuf> {
        let file = file.map(|path| self.folder.join(path));
        let shown = |path: &PathBuf| path.display().to_string();
        self.first(name, [given, file, default], shown)
    }

    fn first<T>(
        &mut self,
        name: &'static str,
        sources: [Option<T>; 3],
        shown: impl Fn(&T) -> String,
    ) -> Option<T> {
        let origins = [Origin::Argument, Origin::File, Origin::Default];
        let found = sources.into_iter().zip(origins);
        let found = found.filter_map(|(value, origin)| Some((value?, origin)));
        let (value, origin) = found.into_iter().next().unzip();
        self.explained.push(Setting {
            name: name.to_owned(),
            value: value.as_ref().map(shown),
            source: origin.unwrap_or(Origin::Unset),
        });
        value
    }
}

/// Where `serve` listens unless it is told otherwise.
const DEFAULT_URL: &str = "https://localhost:8443";

#[cfg(test)]
mod tests {
    use super::arguments::BaseFolders;
    use super::*;

    fn settings(given: Connection, file: &str) -> Settings {
        let file = toml::from_str(file).unwrap();
        Settings::pick(given, file, Path::new("/etc/north"))
    }

    fn origin(settings: &Settings, name: &str) -> Origin {
        let setting = settings.explained.iter().find(|s| s.name == name);
        setting.unwrap().source
    }

    #[test]
    fn an_argument_wins_over_the_file_and_the_file_over_the_default() {
        let file = "url = \"https://file:1\"\nroots = \"root.pem\"\n";
        let given = Connection {
            url: Some("https://flag:1".to_owned()),
            ..Connection::default()
        };
        let flag = settings(given, file);
        assert_eq!(
            (flag.url.as_str(), origin(&flag, "url")),
            ("https://flag:1", Origin::Argument)
        );
        let file = settings(Connection::default(), file);
        assert_eq!(
            (file.url.as_str(), origin(&file, "url")),
            ("https://file:1", Origin::File)
        );
        let none = settings(Connection::default(), "");
        assert_eq!(
            (none.url.as_str(), origin(&none, "url")),
            (DEFAULT_URL, Origin::Default)
        );
        assert_eq!(origin(&none, "lists"), Origin::Unset);
    }

    #[test]
    fn paths_of_the_file_are_relative_to_it_and_a_key_lies_beside_its_chain() {
        let settings = settings(Connection::default(), "cert = \"pki/north.tls.pem\"");
        let key = settings.key.as_deref();
        assert_eq!(key, Some(Path::new("/etc/north/pki/north.tls.key")));
    }

    #[test]
    fn what_is_missing_says_how_to_give_it() {
        let failure = settings(Connection::default(), "").tls().unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.hints[0].contains("COS_ESCROW_CERT"), "{failure:?}");
    }

    #[test]
    fn base_folders_that_are_relative_do_not_count() {
        let base = BaseFolders {
            xdg_config_home: Some("relative".into()),
            xdg_state_home: Some("/state".into()),
            home: Some("/home/north".into()),
        };
        assert_eq!(base.config(), Path::new("/home/north/.config/cos-escrow"));
        assert_eq!(base.state(), Path::new("/state/cos-escrow"));
    }

    #[test]
    fn an_unknown_setting_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, "ulr = \"https://x:1\"\n").unwrap();
        let failure = ConfigFile::read(&path).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.message.contains("ulr"), "{}", failure.message);
    }
}
