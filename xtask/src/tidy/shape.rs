//! Rules over functions and types: length, parameters, names.
//! Methods of a trait's implementation are bound by the trait, and functions with the ABI of C by
//! their caller, so only their length counts.

use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

use super::Finding;
use super::source::Source;

/// Lines of a function, signature and body.
const FUNCTION_LINES: usize = 70;
/// Parameters of a function, `self` among them.
const PARAMETERS: usize = 4;
const VAGUE_SUFFIXES: [&str; 6] = ["Manager", "Helper", "Util", "Wrapper", "Processor", "Handler"];

pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let mut shapes = Shapes { source, findings: Vec::new() };
    shapes.visit_file(&source.file);
    shapes.findings
}

struct Shapes<'s> {
    source: &'s Source,
    findings: Vec<Finding>,
}

impl Shapes<'_> {
    fn find(&mut self, line: usize, message: String) {
        self.findings.push(Finding::new(&self.source.path, line, message));
    }

    fn length(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let first = signature.span().start().line;
        let last = block.span().end().line;
        let lines = last.saturating_sub(first).saturating_add(1);
        if lines > FUNCTION_LINES && !self.source.is_test_line(first) {
            let name = &signature.ident;
            self.find(first, format!("`{name}` has {lines} lines, at most {FUNCTION_LINES}"));
        }
    }

    fn parameters(&mut self, signature: &syn::Signature) {
        let count = signature.inputs.len();
        if count > PARAMETERS && signature.abi.is_none() {
            let name = &signature.ident;
            let message = format!("`{name}` has {count} parameters, at most {PARAMETERS}");
            self.find(signature.span().start().line, message);
        }
    }

    fn name(&mut self, ident: &syn::Ident) {
        let name = ident.to_string();
        if VAGUE_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
            let message = format!("`{name}`: name the thing, not that it deals with something");
            self.find(ident.span().start().line, message);
        }
    }
}

impl<'ast> Visit<'ast> for Shapes<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.length(&item.sig, &item.block);
        self.parameters(&item.sig);
        visit::visit_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        for member in &item.items {
            if let syn::ImplItem::Fn(method) = member {
                self.length(&method.sig, &method.block);
                if item.trait_.is_none() {
                    self.parameters(&method.sig);
                }
            }
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.parameters(&item.sig);
        if let Some(block) = &item.default {
            self.length(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.name(&item.ident);
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.name(&item.ident);
        visit::visit_item_enum(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.name(&item.ident);
        visit::visit_item_trait(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.name(&item.ident);
        visit::visit_item_type(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::fixture;
    use super::*;

    fn count(text: &str) -> usize {
        check(&fixture("crates/auth/src/a.rs", text)).len()
    }

    #[test]
    fn a_function_has_at_most_seventy_lines() {
        let function = |lines: usize| format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2));
        assert_eq!(count(&function(70)), 0);
        assert_eq!(count(&function(71)), 1);
        assert_eq!(count(&format!("struct S;\nimpl S {{\n{}}}", function(71))), 1);
        assert_eq!(count(&format!("#[test]\n{}", function(71))), 0);
    }

    #[test]
    fn a_function_has_at_most_four_parameters() {
        assert_eq!(count("fn f(a: u8, b: u8, c: u8, d: u8) {}"), 0);
        assert_eq!(count("fn f(a: u8, b: u8, c: u8, d: u8, e: u8) {}"), 1);
        assert_eq!(count("impl S { fn f(&self, a: u8, b: u8, c: u8, d: u8) {} }"), 1);
        assert_eq!(count("trait T { fn f(&self, a: u8, b: u8, c: u8, d: u8); }"), 1);
        assert_eq!(count("extern \"C\" fn f(a: u8, b: u8, c: u8, d: u8, e: u8) {}"), 0);
    }

    #[test]
    fn the_implementation_of_a_trait_has_the_parameters_of_the_trait() {
        assert_eq!(count("impl T for S { fn f(&self, a: u8, b: u8, c: u8, d: u8) {} }"), 0);
    }

    #[test]
    fn vague_names_are_refused() {
        for text in ["struct SessionManager;", "enum FrameHandler {}", "trait KeyHelper {}"] {
            assert_eq!(count(text), 1, "{text}");
        }
        assert_eq!(count("struct Session;"), 0);
    }
}
