// RegExpNode's modes, by JavaScript's own rules. Answers [result, count], or null for an unknown mode.
(function (text, pattern, flags, mode, replacement, delimiter) {
  const regexp = new RegExp(pattern, flags);
  const every = regexp.global ? regexp : new RegExp(pattern, flags + "g");
  const count = () => {
    let matches = 0;
    for (const _ of text.matchAll(every)) matches++;
    return matches;
  };
  const answer = (result, matches) => [result.toWellFormed(), matches];
  switch (mode) {
    case "match": {
      const found = text.match(regexp);
      return found === null ? answer("", 0) : answer(found.join(delimiter), found.length);
    }
    case "replace":
      return answer(text.replace(regexp, replacement), count());
    case "test": {
      const found = regexp.test(text);
      return answer(String(found), found ? 1 : 0);
    }
    case "extract": {
      const groups = [];
      for (const match of text.matchAll(every)) {
        for (const group of match.slice(1)) if (group !== undefined) groups.push(group);
      }
      return answer(groups.join(delimiter), groups.length);
    }
    default:
      return null;
  }
})
