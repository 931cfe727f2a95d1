//! Tokens and text. A token is four bytes of UTF-8; text that the server made reads back as the tokens it was made of,
//! so that a conversation's next turn finds its last answer in the prefix cache.
//!
//! A chat prompt is, for each message: two tokens for its role, its content (padded to whole tokens), one token for its
//! end; then two for the answer's role. Real tokenizers give about one token for four bytes of English, too.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// One token.
pub(crate) type Token = u32;

const END: Token = 0xFFFF_FFFE;

/// Tokens of a text.
pub(crate) fn of_text(text: &str) -> Vec<Token> {
    let mut tokens = Vec::with_capacity(text.len().div_ceil(4));
    push_text(&mut tokens, text);
    tokens
}

fn push_text(tokens: &mut Vec<Token>, text: &str) {
    tokens.extend(text.as_bytes().chunks(4).map(|chunk| {
        let mut bytes = [0; 4];
        for (to, from) in bytes.iter_mut().zip(chunk) {
            *to = *from;
        }
        Token::from_le_bytes(bytes)
    }));
}

/// Tokens of a conversation, `(role, content)`.
pub(crate) fn of_messages<'a>(messages: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (role, content) in messages {
        push_role(&mut tokens, role);
        push_text(&mut tokens, content);
        tokens.push(END);
    }
    push_role(&mut tokens, "assistant");
    tokens
}

fn push_role(tokens: &mut Vec<Token>, role: &str) {
    let hash = xxh3_64_with_seed(role.as_bytes(), 1);
    tokens.extend([(hash >> 32) as Token, hash as Token]);
}

/// Where an answer's text comes from: the same for the same model, prompt and salt.
pub(crate) fn answer_seed(model: &str, prompt: &[Token], salt: u64) -> u64 {
    let mut hash = xxh3_64_with_seed(model.as_bytes(), salt);
    for chunk in prompt.chunks(64) {
        let bytes: Vec<u8> = chunk.iter().flat_map(|token| token.to_le_bytes()).collect();
        hash = xxh3_64_with_seed(&bytes, hash);
    }
    hash
}

/// The answer's token at `index`. About one in sixteen ends within a character, as real ones do.
pub(crate) fn generated(seed: u64, index: usize) -> Token {
    let pair = xxh3_64_with_seed(&(index / 2).to_le_bytes(), seed);
    let hash = xxh3_64_with_seed(&index.to_le_bytes(), seed);
    let letter = |letters: &[u8], shift: u32| {
        let place = (hash >> shift) as usize % letters.len().max(1);
        letters.get(place).copied().unwrap_or(b'o')
    };
    let (consonants, vowels) = (b"bdfghjklmnprstvz".as_slice(), b"aeiou".as_slice());
    let (first, second, third) = (letter(consonants, 0), letter(vowels, 8), letter(consonants, 16));
    Token::from_le_bytes(match (pair.is_multiple_of(8), index.is_multiple_of(2)) {
        (true, true) => [b' ', first, second, 0xC3],
        (true, false) => [0xA9, first, second, third],
        (false, _) => [b' ', first, second, third],
    })
}

/// How many tokens the answer has when nothing limits it: 16 to 271.
pub(crate) fn natural_length(seed: u64) -> usize {
    16 + (xxh3_64_with_seed(b"length", seed) % 256) as usize
}

/// Turns tokens into text; what ends within a character is held back until the rest comes.
#[derive(Debug, Default)]
pub(crate) struct Detokenizer {
    held: Vec<u8>,
}

impl Detokenizer {
    /// The text that `token` makes whole; at the `last` token whatever there is.
    pub(crate) fn text(&mut self, token: Token, last: bool) -> String {
        self.held.extend(token.to_le_bytes());
        if !last && std::str::from_utf8(&self.held).is_err() {
            return String::new();
        }
        String::from_utf8_lossy(&std::mem::take(&mut self.held)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::{Detokenizer, answer_seed, generated, of_messages, of_text};

    #[test]
    fn an_answer_reads_back_as_its_tokens() {
        let prompt = of_messages([("user", "who are you?")].into_iter());
        let seed = answer_seed("m", &prompt, 0);
        let tokens: Vec<_> = (0..200).map(|index| generated(seed, index)).collect();
        let mut detokenizer = Detokenizer::default();
        let pieces: Vec<_> = tokens.iter().map(|token| detokenizer.text(*token, false)).collect();
        assert!(pieces.iter().any(String::is_empty));
        let text = pieces.concat();
        assert_eq!(of_text(&text), tokens);
        let next = of_messages([("user", "who are you?"), ("assistant", text.as_str()), ("user", "and?")].into_iter());
        assert!(next.starts_with(&[prompt, tokens].concat()));
    }

    #[test]
    fn models_answer_differently_and_each_the_same_again() {
        let prompt = of_text("the old");
        assert_eq!(answer_seed("a", &prompt, 0), answer_seed("a", &prompt, 0));
        assert_ne!(answer_seed("a", &prompt, 0), answer_seed("b", &prompt, 0));
        assert_ne!(answer_seed("a", &prompt, 0), answer_seed("a", &of_text("the new"), 0));
    }
}
