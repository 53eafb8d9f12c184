//! Everything at an edge: the real binaries, the real wire, the real conditions. One program for all: each one more would
//! compile the SDK's calls anew, and run alone.

mod bad_input;
mod batches;
mod breaker;
mod chaos;
mod clock;
mod contention;
mod contract;
mod drafts;
mod exports;
mod flow;
mod forge;
mod gemini;
mod health;
mod key_pool;
mod live;
mod metadata;
mod old_records;
mod openai;
mod outlook;
mod pages;
mod recovery;
mod secret_box;
mod secrets;
mod settings;
mod stand_in_gemini;
mod tenants;
mod uploads;
mod webhooks;
