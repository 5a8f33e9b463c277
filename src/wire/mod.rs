//! The serialisations of DBOS clients, one file each, behind one enum.
