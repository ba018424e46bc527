//! A Rust file as a flat list of its identifiers and string literals, macros included.
//! Never looks into comments or documentation.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// An identifier or a string literal, and its line (from 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) line: usize,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Ident(String),
    Str(String),
}

/// Flattens `stream`; `#[doc = ...]` is left out, other attributes are kept.
pub(crate) fn leaves(stream: TokenStream) -> Vec<Leaf> {
    let mut found = Vec::new();
    collect(stream, &mut found);
    found
}

fn collect(stream: TokenStream, found: &mut Vec<Leaf>) {
    for tree in stream {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Group(group) if is_doc(&group) => {}
            TokenTree::Group(group) => collect(group.stream(), found),
            TokenTree::Ident(ident) => {
                found.push(Leaf { line, kind: Kind::Ident(ident.to_string()) });
            }
            TokenTree::Literal(literal) => {
                if let syn::Lit::Str(text) = syn::Lit::new(literal) {
                    found.push(Leaf { line, kind: Kind::Str(text.value()) });
                }
            }
            TokenTree::Punct(_) => {}
        }
    }
}

fn is_doc(group: &Group) -> bool {
    group.delimiter() == Delimiter::Bracket && first_ident(group.stream()).as_deref() == Some("doc")
}

fn first_ident(stream: TokenStream) -> Option<String> {
    match stream.into_iter().next() {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
        Some(TokenTree::Group(_) | TokenTree::Punct(_) | TokenTree::Literal(_)) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macros_are_read_and_documentation_is_not() {
        let text = "/// unsafe words\nfn f() { println!(\"{}\", inner(\"text\")); }";
        let found = leaves(text.parse().unwrap());
        let words: Vec<_> = found
            .iter()
            .map(|leaf| match &leaf.kind {
                Kind::Ident(word) | Kind::Str(word) => (leaf.line, word.as_str()),
            })
            .collect();
        assert_eq!(
            words,
            [(2, "fn"), (2, "f"), (2, "println"), (2, "{}"), (2, "inner"), (2, "text")]
        );
    }
}
