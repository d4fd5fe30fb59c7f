//! From the Markdown of `docs/` to man pages: headings, paragraphs, lists, tables and blocks of code.
//!
//! A table becomes a list with its first column as the term: the formatters of terminals keep no wide tables apart.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use roff::{Roff, bold, italic, roman};
use std::fmt::Write as _;

/// Title and NAME.
pub(super) fn head(name: &str, section: u8, about: &str) -> String {
    let mut page = Roff::new();
    let number = section.to_string();
    page.control("TH", [name, number.as_str(), "", concat!("taproot ", env!("CARGO_PKG_VERSION")), ""]);
    // Ragged lines without hyphens: words of a command line must not be torn.
    page.control("ad", ["l"]);
    page.control("nh", []);
    page.control("SH", ["NAME"]);
    page.text([roman(format!("{name} - {about}"))]);
    page.to_roff()
}

/// A document; its title is left out, the page has its own.
pub(super) fn body(markdown: &str) -> String {
    let mut writer = Writer::default();
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        writer.event(event);
    }
    writer.text
}

#[derive(Default, PartialEq, Eq, Clone, Copy)]
enum Style {
    #[default]
    Plain,
    Emphasis,
    Strong,
}

#[derive(Default, PartialEq, Eq, Clone, Copy)]
enum Place {
    #[default]
    Text,
    Code,
    TableHead,
}

#[derive(Default)]
struct Writer {
    text: String,
    line: Vec<roff::Inline>,
    headings: Vec<String>,
    cells: usize,
    style: Style,
    place: Place,
    in_item: usize,
}

impl Writer {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(&tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) if self.place == Place::Code => self.push_verbatim(&text),
            Event::Text(text) => {
                self.line.push(match self.style {
                    Style::Strong => bold(&*text),
                    Style::Emphasis => italic(&*text),
                    Style::Plain => roman(&*text),
                });
            }
            Event::Code(code) => self.line.push(bold(&*code)),
            Event::SoftBreak => self.line.push(roman(" ")),
            Event::HardBreak => {
                self.flush();
                self.control("br", &[]);
            }
            _ => {}
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::Paragraph if self.in_item == 0 => self.control("PP", &[]),
            Tag::Item => {
                self.flush(); // a list in an item: what stands before it
                self.in_item += 1;
                self.control("IP", &["-", "2"]);
            }
            Tag::List(_) if self.in_item > 0 => {
                self.flush();
                self.control("RS", &[]);
            }
            Tag::CodeBlock(_) => {
                self.flush();
                self.place = Place::Code;
                self.text.push_str(".PP\n.RS 4\n.nf\n");
            }
            Tag::Table(_) => self.headings.clear(),
            Tag::TableHead => self.place = Place::TableHead,
            Tag::TableRow => self.cells = 0,
            Tag::TableCell if self.place != Place::TableHead && self.cells == 0 => self.control("TP", &[]),
            Tag::TableCell if self.place != Place::TableHead && self.cells > 1 => {
                // The first two cells are term and meaning; what follows says what it is.
                let heading = self.headings.get(self.cells).cloned().unwrap_or_default();
                if !heading.is_empty() {
                    self.line.push(roman(format!("{heading}: ")));
                }
            }
            Tag::Emphasis => self.style = Style::Emphasis,
            Tag::Strong => self.style = Style::Strong,
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => {
                let title: String = plain(&self.line);
                self.line.clear();
                match level {
                    pulldown_cmark::HeadingLevel::H1 => self.control("SH", &["DESCRIPTION"]),
                    pulldown_cmark::HeadingLevel::H2 => self.control("SH", &[&title.to_uppercase()]),
                    _ => self.control("SS", &[&title]),
                }
            }
            TagEnd::Paragraph => self.flush(),
            TagEnd::Item => {
                self.flush();
                self.in_item = self.in_item.saturating_sub(1);
            }
            TagEnd::List(_) if self.in_item > 0 => self.control("RE", &[]),
            TagEnd::CodeBlock => {
                self.place = Place::Text;
                self.text.push_str(".fi\n.RE\n");
            }
            TagEnd::TableHead => self.place = Place::Text,
            TagEnd::TableCell => self.cell(),
            TagEnd::Emphasis | TagEnd::Strong => self.style = Style::Plain,
            _ => {}
        }
    }

    fn cell(&mut self) {
        if self.place == Place::TableHead {
            self.headings.push(plain(&self.line));
            self.line.clear();
            return;
        }
        let empty = self.line.is_empty() || (self.cells > 1 && self.line.len() == 1);
        if empty && self.cells > 0 {
            self.line.clear();
        } else {
            if self.cells > 1 {
                self.control("br", &[]);
            }
            if self.line.is_empty() {
                self.line.push(roman(" ")); // a term without text would take the meaning for itself
            }
            self.flush();
        }
        self.cells += 1;
    }

    fn control(&mut self, name: &str, arguments: &[&str]) {
        let mut one = Roff::new();
        one.control(name, arguments.iter().copied());
        self.text.push_str(&one.to_roff());
    }

    fn flush(&mut self) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            let mut one = Roff::new();
            one.text(line);
            self.text.push_str(&one.to_roff());
        }
    }

    /// Lines of code, which a leading dot or quote must not turn into a request.
    fn push_verbatim(&mut self, text: &str) {
        for line in text.lines() {
            let escaped = line.replace('\\', "\\e").replace('-', "\\-");
            let guard = if escaped.starts_with(['.', '\'']) { "\\&" } else { "" };
            let _ = writeln!(self.text, "{guard}{escaped}");
        }
    }
}

fn plain(line: &[roff::Inline]) -> String {
    let text = |inline: &roff::Inline| match inline {
        roff::Inline::Roman(text) | roff::Inline::Italic(text) | roff::Inline::Bold(text) => text.clone(),
        roff::Inline::LineBreak => " ".to_owned(),
    };
    line.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_a_list_of_terms() {
        let page = body(
            "# T\n\n## Words\n\n| word | meaning | default |\n|---|---|---|\n| `a=1` | *one* | 3 |\n| `b` | two | |\n",
        );
        let expected =
            ".SH DESCRIPTION\n.SH WORDS\n.TP\n\\fBa=1\\fR\n\\fIone\\fR\n.br\ndefault: 3\n.TP\n\\fBb\\fR\ntwo\n";
        assert_eq!(page, expected);
    }

    #[test]
    fn code_is_kept_and_no_request() {
        let page = body("Text.\n\n    .dot 'q' \\x\n    a - b\n\n- one\n- two\n");
        assert!(page.contains(".nf\n\\&.dot 'q' \\ex\na \\- b\n.fi\n"), "{page}");
        assert!(
            page.contains(".IP \\- 2\none\n.IP \\- 2\ntwo\n") || page.contains(".IP - 2\none\n.IP - 2\ntwo\n"),
            "{page}"
        );
    }
}
