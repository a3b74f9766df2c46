//! `docs/providers.md` is true: each URL in it is read, or refused with what to write instead, as the page says.

#![expect(clippy::unwrap_used, reason = "it is a test, its helpers included")]

use db::Config;

/// The password of every URL of the page.
const PASSWORD: &str = "s3cret";

/// A provider, and its URLs with what the page calls them.
struct Provider {
    name: String,
    forms: Vec<(String, String)>,
}

fn providers() -> Vec<Provider> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/providers.md");
    let text = std::fs::read_to_string(path).unwrap();
    let form = |line: &str| {
        let (word, url) = line.split_once(' ')?;
        let url = url.trim_start();
        url.starts_with("postgres")
            .then(|| (word.to_owned(), url.to_owned()))
    };
    let provider = |section: &str| Provider {
        name: section.lines().next().unwrap().to_owned(),
        forms: section.lines().filter_map(form).collect(),
    };
    text.split("\n## ").skip(1).map(provider).collect()
}

/// The parameters of a URL, as they are written.
fn parameters(url: &str) -> Vec<&str> {
    let (_, parameters) = url.split_once('?').unwrap_or_default();
    parameters
        .split('&')
        .filter(|one| !one.is_empty())
        .collect()
}

/// What is wrong with this refusal: it has to name a parameter that we do not write, and to say what to do about it.
fn vague(error: &str, refused: &str, written: &[&str]) -> Option<String> {
    let gone = parameters(refused)
        .into_iter()
        .filter(|one| !written.contains(one));
    let mut names = gone
        .filter_map(|one| one.split_once('='))
        .map(|(name, _)| format!("`{name}`"));
    let named = names.any(|name| error.contains(&name));
    let says = |one: &str| {
        let value = one.split_once('=').map(|(_, value)| format!("`{value}`"));
        error.contains(one) || value.is_some_and(|value| error.contains(&value))
    };
    let helps = error.contains("remove") || written.iter().any(|one| says(one));
    let secret = error.contains(PASSWORD);
    (!named || !helps || secret)
        .then(|| format!("refused without what to write: {refused}\n  {error}"))
}

impl Provider {
    /// What the page says of this provider that is not so.
    fn wrong(&self) -> Vec<String> {
        let urls = |word: &'static str| self.forms.iter().filter(move |(said, _)| said == word);
        let written: Vec<&str> = urls("write").flat_map(|(_, url)| parameters(url)).collect();
        let wrong = |(word, url): &(String, String)| match (word.as_str(), Config::parse(url)) {
            ("taken" | "write" | "direct", Ok(_)) => None,
            ("refused", Err(error)) => vague(&error.to_string(), url, &written),
            (_, Ok(_)) => Some(format!("not {word}: {url}")),
            (_, Err(error)) => Some(format!("not {word}: {url}\n  {error}")),
        };
        self.forms
            .iter()
            .filter_map(wrong)
            .map(|text| format!("{}: {text}", self.name))
            .collect()
    }
}

#[test]
fn each_url_of_the_page_is_read_or_refused_as_it_says() {
    let providers = providers();
    let wrong: Vec<String> = providers.iter().flat_map(Provider::wrong).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// So that the test above has something to read.
#[test]
fn the_page_has_twelve_providers_each_with_a_url_that_is_printed_and_one_that_is_read() {
    let providers = providers();
    assert_eq!(providers.len(), 12);
    for Provider { name, forms } in providers {
        let has = |words: [&str; 2]| forms.iter().any(|(word, _)| words.contains(&word.as_str()));
        assert!(
            has(["taken", "refused"]) && has(["taken", "write"]),
            "{name}"
        );
        let secret = |(_, url): &(String, String)| url.contains(&format!(":{PASSWORD}@"));
        assert!(forms.iter().all(secret), "{name}");
    }
}
