//! `executeFireFlow`, the execution store and the flow store (SQL on the application tables).
