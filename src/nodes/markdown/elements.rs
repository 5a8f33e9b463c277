//! What kinds of elements there are, by their names in lower case.

/// Stand on lines of their own.
pub(super) fn is_block(tag: &str) -> bool {
    matches!(
        tag,
        "address"
            | "article"
            | "aside"
            | "audio"
            | "blockquote"
            | "body"
            | "canvas"
            | "center"
            | "dd"
            | "dir"
            | "div"
            | "dl"
            | "dt"
            | "fieldset"
            | "figcaption"
            | "figure"
            | "footer"
            | "form"
            | "frameset"
            | "h1"
            | "h2"
            | "h3"
            | "h4"
            | "h5"
            | "h6"
            | "header"
            | "hgroup"
            | "hr"
            | "html"
            | "isindex"
            | "li"
            | "main"
            | "menu"
            | "nav"
            | "noframes"
            | "noscript"
            | "ol"
            | "output"
            | "p"
            | "pre"
            | "section"
            | "table"
            | "tbody"
            | "td"
            | "tfoot"
            | "th"
            | "thead"
            | "tr"
            | "ul"
    )
}

/// Have no content, and mean something all the same.
pub(super) fn is_void(tag: &str) -> bool {
    matches!(
        tag,
        "area"
            | "base"
            | "br"
            | "col"
            | "command"
            | "embed"
            | "hr"
            | "img"
            | "input"
            | "keygen"
            | "link"
            | "meta"
            | "param"
            | "source"
            | "track"
            | "wbr"
    )
}

/// Mean something even when they hold nothing but white space.
pub(super) fn means_something_blank(tag: &str) -> bool {
    matches!(tag, "a" | "table" | "thead" | "tbody" | "tfoot" | "th" | "td" | "iframe" | "script" | "audio" | "video")
}

/// Taken out of a page before anything else, with all that they hold.
pub(super) fn is_stripped(name: &str) -> bool {
    matches!(name, "script" | "style" | "noscript" | "iframe" | "object" | "embed" | "svg" | "meta" | "link" | "base")
}

/// Left out of the Markdown, with all that they hold.
pub(super) fn is_dropped(tag: &str) -> bool {
    matches!(
        tag,
        "head"
            | "title"
            | "canvas"
            | "audio"
            | "video"
            | "source"
            | "track"
            | "map"
            | "area"
            | "form"
            | "input"
            | "select"
            | "option"
            | "optgroup"
            | "textarea"
            | "datalist"
            | "output"
            | "progress"
            | "meter"
            | "label"
            | "fieldset"
            | "legend"
            | "button"
            | "nav"
            | "header"
            | "footer"
            | "aside"
            | "menu"
    )
}
