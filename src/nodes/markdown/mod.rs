//! Pages as Markdown, to the letter as Turndown for JavaScript writes them with the settings of HttpRequestNode: `#` for
//! headings, `-` for items, fences for code, `*em*`, `**strong**`, links in place. Stored flows, and the prompts made of
//! them, were tried with that.

mod collapse;
mod convert;
mod dom;
mod elements;
mod rules;
mod strip;

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::flow::number::trim;

/// How much a page may be, and become.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Bytes of the page.
    page: usize,
    /// Elements in elements; browsers stop at this many, too.
    depth: usize,
    /// Elements, texts and comments, once the page is mended.
    nodes: usize,
    /// Bytes of Markdown. Quotes in quotes grow with every level.
    output: usize,
    /// How long it may take: some pages are made to take for ever.
    time: Duration,
}

const LIMITS: Limits =
    Limits { page: 8 << 20, depth: 512, nodes: 500_000, output: 64 << 20, time: Duration::from_secs(10) };

/// How much is read between two looks at the limits. A byte may become hundreds of nodes.
const CHUNK: usize = 1024;

/// The page's content is put into an element of its own, with this id, so that it is found again wherever the
/// parser puts it.
const ROOT: &str = "page-root";

/// Why a page has no Markdown. Says nothing of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MarkdownError {
    #[error("the page is longer than {0} bytes")]
    TooLarge(usize),
    #[error("the page nests deeper than {0} elements")]
    TooDeep(usize),
    #[error("the page has more than {0} elements")]
    TooMany(usize),
    #[error("its Markdown grows beyond {0} bytes")]
    TooLong(usize),
    #[error("no end after {} s", .0.as_secs())]
    Time(Duration),
    #[error("stopped")]
    Stopped,
    #[error("the page consists of frames")]
    Frames,
}

/// [`from_html`] in a thread of its own kind, since it may take seconds.
///
/// # Errors
/// See [`MarkdownError`].
pub(super) async fn of_page(page: String, cancel: &CancellationToken) -> Result<String, MarkdownError> {
    let cancel = cancel.clone();
    let work = tokio::task::spawn_blocking(move || from_html(&page, &LIMITS, &cancel));
    match work.await {
        Ok(converted) => converted,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(MarkdownError::Stopped), // the runtime ends
    }
}

/// A page as Markdown. Holds the calling thread for as long as the limits allow; the token ends it earlier.
///
/// # Errors
/// See [`MarkdownError`].
fn from_html(page: &str, limits: &Limits, cancel: &CancellationToken) -> Result<String, MarkdownError> {
    if page.len() > limits.page {
        return Err(MarkdownError::TooLarge(limits.page));
    }
    let end = Instant::now() + limits.time;
    let go_on = || match (cancel.is_cancelled(), Instant::now() > end) {
        (true, _) => Err(MarkdownError::Stopped),
        (_, true) => Err(MarkdownError::Time(limits.time)),
        _ => Ok(()),
    };
    let page = strip::strip(page);
    let mut reader = dom::Reader::new();
    reader.feed(&format!("<x-page id=\"{ROOT}\">"));
    let mut rest = page.as_str();
    while !rest.is_empty() {
        let cut = (CHUNK..rest.len()).find(|at| rest.is_char_boundary(*at)).unwrap_or(rest.len());
        let (chunk, after) = rest.split_at(cut);
        reader.feed(chunk);
        rest = after;
        go_on()?;
        match reader.size() {
            (nodes, _) if nodes > limits.nodes => return Err(MarkdownError::TooMany(limits.nodes)),
            (_, depth) if depth > limits.depth => return Err(MarkdownError::TooDeep(limits.depth)),
            _ => {}
        }
    }
    reader.feed("</x-page>");
    let (mut tree, root) = reader.finish(ROOT);
    let root = root.ok_or(MarkdownError::Frames)?;
    strip::take_out(&mut tree, root);
    collapse::collapse(&mut tree, root);
    go_on()?;
    let text = convert::convert(&tree, root, limits.output, go_on)?;
    Ok(tidy(&text))
}

/// What HttpRequestNode does to the Markdown afterwards: no empty lines in a row, no runs of blanks, no empty items.
fn tidy(text: &str) -> String {
    let mut lines = String::with_capacity(text.len());
    let mut line_ends = 0;
    for character in trim(text).chars() {
        line_ends = if character == '\n' { line_ends + 1 } else { 0 };
        let after_blank = lines.ends_with(' ');
        match character {
            '\n' if line_ends > 2 => {}
            ' ' | '\t' if after_blank => {}
            ' ' | '\t' => lines.push(' '),
            character => lines.push(character),
        }
    }
    without_empty_items(&lines)
}

/// An item that holds nothing becomes an empty line, together with the empty lines around it.
fn without_empty_items(text: &str) -> String {
    let lines: Vec<&str> = text.split('\n').collect();
    let mut result: Vec<&str> = Vec::with_capacity(lines.len());
    let mut at = 0;
    while at < lines.len() {
        if trim(lines[at]) != "-" {
            result.push(lines[at]);
            at += 1;
            continue;
        }
        while result.last().is_some_and(|line| trim(line).is_empty()) {
            result.pop();
        }
        at += 1;
        while at < lines.len() && trim(lines[at]).is_empty() {
            at += 1;
        }
        result.push("");
    }
    result.join("\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Pages with what Turndown 7.2 makes of them, and what the node does to that.
    const WRITTEN: &str = include_str!("written.json");

    fn converted(page: &str) -> Result<String, MarkdownError> {
        from_html(page, &LIMITS, &CancellationToken::new())
    }

    #[test]
    fn pages_become_what_the_library_makes_of_them() {
        let cases: Vec<(String, String)> = serde_json::from_str(WRITTEN).unwrap();
        assert!(cases.len() > 200);
        for (page, text) in &cases {
            assert_eq!(converted(page).as_ref(), Ok(text), "{page}");
        }
    }

    #[test]
    fn size_depth_and_growth_are_bounded() {
        let time = Duration::from_secs(600); // other limits come first, on any machine
        let limits = Limits { page: 50_000, depth: 512, nodes: 3_000, output: 100_000, time };
        let marks: Vec<_> = (0..200).map(|id| format!("<b id={id}>")).collect();
        for (page, error) in [
            ("x".repeat(50_001), MarkdownError::TooLarge(50_000)),
            ("<div>".repeat(800), MarkdownError::TooDeep(512)),
            ("<i>x</i>".repeat(3_000), MarkdownError::TooMany(3_000)),
            // Paragraphs that open all these again.
            (format!("<p>{}{}", marks.concat(), "<p>x".repeat(100)), MarkdownError::TooMany(3_000)),
            (format!("{}{}", "<blockquote>".repeat(400), "x<br>".repeat(1_000)), MarkdownError::TooLong(100_000)),
            ("<frameset></frameset>".to_owned(), MarkdownError::Frames),
        ] {
            assert_eq!(from_html(&page, &limits, &CancellationToken::new()), Err(error), "{}", &page[..20]);
        }
        let deep = format!("{}x", "<div><b>".repeat(250));
        assert!(converted(&deep).unwrap().contains('x'));
        let limits = Limits { time: Duration::ZERO, ..LIMITS };
        let stopped = from_html("<p>x", &limits, &CancellationToken::new());
        assert_eq!(stopped, Err(MarkdownError::Time(Duration::ZERO)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn no_page_makes_it_panic(parts in proptest::collection::vec((0..PARTS.len(), any::<char>()), 0..40)) {
            let page: String = parts.iter().flat_map(|(part, character)| [PARTS[*part].to_owned(), character.to_string()]).collect();
            converted(&page).ok();
        }
    }

    const PARTS: [&str; 24] = [
        "<table>",
        "<tr>",
        "</td>",
        "<li>",
        "</ul>",
        "<ol start=9e99>",
        "<pre><code class=language->",
        "</code>",
        "<svg>",
        "<math><mi>",
        "<template>",
        "</template>",
        "<b>",
        "</p>",
        "<a href=(>",
        "<select><option>",
        "<script>",
        "<!--",
        "-->",
        "</x-page>",
        "<body id=page-root>",
        "<frameset>",
        "&#x0;&amp",
        " \n",
    ];

    #[test]
    fn a_stopped_node_stops_reading() {
        let cancel = CancellationToken::new();
        cancel.cancel();
        assert_eq!(from_html("<p>x", &LIMITS, &cancel), Err(MarkdownError::Stopped));
    }
}
