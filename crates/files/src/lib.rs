//! Documents from files and folders, watched.
//!
//! Reads manifests (YAML with several documents, or JSON) into [`tidegate_api::Document`]s with the position of every
//! field, repairs what the printed guides get wrong, and says so; watches the paths and gives a new set when something
//! changed. Losing a path freezes what it held. Routes no traffic and decides nothing about meaning.
