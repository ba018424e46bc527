//! The book's table of contents names every page, and only pages that exist.
//! Never checks what a page says.

use super::Finding;
use crate::tree::Text;

const SUMMARY: &str = "docs/SUMMARY.md";

pub(crate) fn check(texts: &[Text]) -> Vec<Finding> {
    let Some(summary) = texts.iter().find(|text| text.path == SUMMARY) else {
        return Vec::new();
    };
    let exists = |page: &str| texts.iter().any(|text| text.path == format!("docs/{page}"));
    let mut findings = Vec::new();
    for (line, content) in (1..).zip(summary.text.lines()) {
        let target = content.split_once("](").and_then(|(_, rest)| rest.split_once(')'));
        if let Some((page, _)) = target
            && !exists(page)
        {
            findings.push(Finding::new(SUMMARY, line, format!("docs/{page} does not exist")));
        }
    }
    findings.extend(texts.iter().filter_map(|text| unlisted(text, &summary.text)));
    findings
}

/// A page of the book that its table of contents leaves out.
fn unlisted(text: &Text, summary: &str) -> Option<Finding> {
    let page = text.path.strip_prefix("docs/")?;
    let listed = text.path == SUMMARY || summary.contains(&format!("]({page})"));
    (page.ends_with(".md") && !listed)
        .then(|| Finding::new(&text.path, 1, format!("{SUMMARY} does not list this page")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_missing_is_found() {
        let text = |path: &str, text: &str| Text { path: path.into(), text: text.into() };
        let summary = text(SUMMARY, "# Contents\n- [A](a.md)\n- [B](b/README.md)\n");
        let mut texts = vec![summary, text("docs/a.md", "")];
        let lines: Vec<_> = check(&texts).into_iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [3]);
        texts.push(text("docs/b/README.md", ""));
        assert_eq!(check(&texts), []);
    }

    #[test]
    fn a_page_that_is_not_listed_is_found() {
        let text = |path: &str, text: &str| Text { path: path.into(), text: text.into() };
        let mut texts = vec![text(SUMMARY, "- [A](a.md)\n"), text("docs/a.md", "")];
        texts.extend([text("README.md", ""), text("docs/cases.toml", "")]);
        assert_eq!(check(&texts), []);
        texts.push(text("docs/b/a.md", ""));
        assert_eq!(check(&texts).len(), 1);
    }
}
