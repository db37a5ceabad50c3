//! What serde walks through: the keys and values of a mapping, the items of a list, and one of
//! several alternatives.

use serde::de::{self, DeserializeSeed, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::{Error, Piece, Reader};
use crate::config::yaml::{Entry, Node, Value};

/// A key, or the name of an alternative.
pub(super) struct Word<'t> {
    text: &'t str,
    of: Reader<'t>,
}

impl<'t> Deserializer<'t> for Word<'t> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        // What is wrong is reported here, since an erased visitor makes a mere text of an error
        // that passes through it.
        visitor
            .visit_borrowed_str(self.text)
            .map_err(|error| self.of.place(error))
    }

    fn deserialize_newtype_struct<V: Visitor<'t>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'t>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    forward_to_deserialize_any! {
        <V: Visitor<'t>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map
        struct enum identifier ignored_any
    }
}

pub(super) struct MapReader<'t> {
    pub(super) reader: Reader<'t>,
    pub(super) rest: std::slice::Iter<'t, Entry>,
    pub(super) value: Option<&'t Entry>,
    /// The keys that the struct has, where it is one.
    pub(super) fields: Option<&'static [&'static str]>,
}

impl<'t> de::MapAccess<'t> for MapReader<'t> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'t>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let piece = self.reader.piece;
        for entry in self.rest.by_ref() {
            if piece.mistakes.is_hidden(&entry.value) {
                continue;
            }
            if let Some(fields) = self.fields {
                if !fields.contains(&entry.key.as_str()) {
                    piece.report_unknown_key(entry, fields);
                    continue;
                }
                // `null` that is written out is a value of `data` alone: a `match` of it would take
                // everything, and a `to` lead nowhere.
                let is_null = entry.value.value == Value::Null && entry.key != "data";
                if is_null || piece.child(None, &entry.value).is_unwritten() {
                    let told: Result<(), Error> =
                        Reader::new(piece.child(Some(entry), &entry.value))
                            .placed(|_| Err(Error::Empty));
                    drop(told);
                    continue;
                }
            }
            self.value = Some(entry);
            return seed
                .deserialize(Word {
                    text: &entry.key,
                    of: self.reader,
                })
                .map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'t>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some(entry) = self.value.take() else {
            return Err(Error::Reported);
        };
        Reader::new(self.reader.piece.child(Some(entry), &entry.value))
            .placed(|reader| seed.deserialize(reader))
    }
}

pub(super) struct ListReader<'t> {
    pub(super) reader: Reader<'t>,
    pub(super) rest: std::slice::Iter<'t, Node>,
}

impl<'t> de::SeqAccess<'t> for ListReader<'t> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'t>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let piece = self.reader.piece;
        let Some(item) = self
            .rest
            .by_ref()
            .find(|item| !piece.mistakes.is_hidden(item))
        else {
            return Ok(None);
        };
        Reader::new(piece.child(None, item))
            .placed(|reader| seed.deserialize(reader))
            .map(Some)
    }
}

pub(super) struct VariantReader<'t> {
    pub(super) reader: Reader<'t>,
    pub(super) variant: &'t str,
    pub(super) content: Option<Piece<'t>>,
}

impl<'t> de::EnumAccess<'t> for VariantReader<'t> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'t>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        seed.deserialize(Word {
            text: self.variant,
            of: self.reader,
        })
        .map(|variant| (variant, self))
    }
}

impl<'t> VariantReader<'t> {
    /// The variant's content, read as a struct where it is empty.
    fn content<T>(self, read: impl FnOnce(Reader<'t>) -> Result<T, Error>) -> Result<T, Error> {
        match self.content {
            Some(piece) => Reader {
                piece,
                wants_struct: true,
                fields: None,
            }
            .placed(read),
            // Reported here, since an erased visitor makes a mere text of an error that passes
            // through it.
            None => Err(self.reader.place(Error::Bare(self.variant.to_owned()))),
        }
    }
}

impl<'t> de::VariantAccess<'t> for VariantReader<'t> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.content {
            None => Ok(()),
            Some(piece)
                if piece.node.value == Value::Null
                    || piece.node.entries().is_empty()
                        && matches!(piece.node.value, Value::Map(_)) =>
            {
                Ok(())
            }
            Some(_) => Err(Error::Other(format!(
                "`{}` stands alone, without a value",
                self.variant
            ))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'t>>(self, seed: T) -> Result<T::Value, Error> {
        self.content(|reader| seed.deserialize(reader))
    }

    fn tuple_variant<V: Visitor<'t>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.content(|reader| reader.deserialize_any(visitor))
    }

    fn struct_variant<V: Visitor<'t>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.content(|reader| reader.deserialize_struct("", fields, visitor))
    }
}
