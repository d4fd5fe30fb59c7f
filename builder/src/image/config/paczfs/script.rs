//! As much of bash as a configuration of paczfs is written in: assignments, lists, functions, comments.

/// A value as it stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    List(Vec<String>),
}

/// Something at the top of the script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Assignment { name: String, value: Value },
    Function { name: String, body: String },
}

/// With the number of its line.
type Lined<T> = (usize, T);

/// All pieces, and all that is none with what is wrong about it.
pub(super) fn pieces(text: &str) -> (Vec<Lined<Piece>>, Vec<Lined<String>>) {
    let mut reader = Reader { rest: text, line: 1 };
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    loop {
        reader.skip_empty();
        if reader.rest.is_empty() {
            return (found, refused);
        }
        let line = reader.line;
        match reader.piece() {
            Ok(piece) => found.push((line, piece)),
            Err(why) => {
                refused.push((line, why));
                reader.skip_line();
            }
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-".contains(c)
}

impl<'a> Reader<'a> {
    fn advance(&mut self, bytes: usize) -> &'a str {
        let (done, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.line += done.matches('\n').count();
        self.rest = rest;
        done
    }

    fn skip_line(&mut self) {
        let end = self.rest.find('\n').map_or(self.rest.len(), |at| at + 1);
        self.advance(end);
    }

    /// Empty lines, comments, and what separates commands.
    fn skip_empty(&mut self) {
        loop {
            let blank = self.rest.len() - self.rest.trim_start_matches([' ', '\t', '\n', '\r', ';']).len();
            self.advance(blank);
            if !self.rest.starts_with('#') {
                return;
            }
            self.skip_line();
        }
    }

    fn piece(&mut self) -> Result<Piece, String> {
        for word in ["export ", "readonly ", "declare -a ", "declare "] {
            if self.rest.starts_with(word) {
                self.advance(word.len());
            }
        }
        let keyword = self.rest.starts_with("function ");
        if keyword {
            self.advance("function ".len());
        }
        let end = self.rest.find(|c| !is_name(c)).unwrap_or(self.rest.len());
        let name = self.rest.get(..end).unwrap_or_default().to_owned();
        let after = self.rest.get(end..).unwrap_or_default();
        if let Some(value) = after.strip_prefix('=').filter(|_| !keyword && !name.is_empty()) {
            self.advance(end + 1);
            let value = if value.starts_with('(') { Value::List(self.list()?) } else { Value::Text(self.word()?) };
            self.ended()?;
            return Ok(Piece::Assignment { name, value });
        }
        let body = after.trim_start().strip_prefix("()").map(str::trim_start).or(keyword.then(|| after.trim_start()));
        if let Some(body) = body.filter(|body| body.starts_with('{') && !name.is_empty()) {
            self.advance(self.rest.len() - body.len() + 1);
            return Ok(Piece::Function { body: self.body()?, name });
        }
        let line = self.rest.lines().next().unwrap_or_default();
        Err(format!(
            "expected an assignment or a function, found {line:?}; it would have been run: put it into a function"
        ))
    }

    /// Nothing but a comment may follow on the line.
    fn ended(&mut self) -> Result<(), String> {
        let rest = self.rest.lines().next().unwrap_or_default().trim_start();
        if rest.is_empty() || rest.starts_with(['#', ';']) {
            Ok(())
        } else {
            Err(format!("expected the line to end, found {rest:?}"))
        }
    }

    fn list(&mut self) -> Result<Vec<String>, String> {
        self.advance(1);
        let mut list = Vec::new();
        loop {
            self.skip_empty();
            if self.rest.starts_with(')') {
                self.advance(1);
                return Ok(list);
            }
            if self.rest.is_empty() {
                return Err("expected ) at the end of a list, found the end of the file".to_owned());
            }
            list.push(self.word()?);
        }
    }

    /// A word with its quotes undone. What is in single quotes or none is looked at later; in double quotes bash put variables in at once.
    fn word(&mut self) -> Result<String, String> {
        let mut out = String::new();
        while let Some(c) = self.rest.chars().next() {
            match c {
                '\'' => out.push_str(self.quoted('\'')?),
                '"' => {
                    let inside = self.quoted('"')?;
                    if inside.contains('`') || inside.contains('$') && !inside.starts_with("$(") {
                        return Err(format!(
                            "\"{inside}\": in double quotes bash puts variables in at once, where they are still empty: write it in single quotes"
                        ));
                    }
                    out.push_str(&inside.replace("\\\"", "\"").replace("\\\\", "\\"));
                }
                '$' if self.rest.starts_with("$(") => {
                    let end = self.rest.find(')').ok_or("expected ) after $(")?;
                    out.push_str(self.advance(end + 1));
                }
                '\\' => {
                    self.advance(1);
                    let next = self.rest.chars().next().map_or(0, char::len_utf8);
                    out.push_str(self.advance(next));
                }
                c if c.is_whitespace() || ");".contains(c) => break,
                '`' | '(' | '|' | '&' | '<' | '>' => return Err(format!("expected a plain word, found {c}")),
                c => out.push_str(self.advance(c.len_utf8())),
            }
        }
        Ok(out)
    }

    fn quoted(&mut self, quote: char) -> Result<&'a str, String> {
        self.advance(1);
        let mut escaped = false;
        let end = self.rest.char_indices().find(|(_, c)| {
            let ends = *c == quote && !escaped;
            escaped = quote == '"' && *c == '\\' && !escaped;
            ends
        });
        let (end, _) =
            end.ok_or_else(|| format!("expected {quote} at the end of a text, found the end of the file"))?;
        let inside = self.advance(end);
        self.advance(1);
        Ok(inside)
    }

    /// Up to the brace that ends a function: those in quotes, comments and `${...}` do not count.
    fn body(&mut self) -> Result<String, String> {
        let (mut depth, mut quote, mut comment, mut before) = (1, None, false, '\n');
        let mut skip = false;
        for (at, c) in self.rest.char_indices() {
            if skip {
                skip = false;
            } else if comment {
                comment = c != '\n';
            } else if c == '\\' && quote != Some('\'') {
                skip = true;
            } else if let Some(open) = quote {
                if c == open {
                    quote = None;
                }
            } else {
                match c {
                    '\'' | '"' => quote = Some(c),
                    '#' if before.is_whitespace() => comment = true,
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
            }
            before = c;
            if depth == 0 {
                let body = self.advance(at).to_owned();
                self.advance(1);
                return Ok(body);
            }
        }
        Err("expected } at the end of a function, found the end of the file".to_owned())
    }
}
