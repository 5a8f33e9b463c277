//! Node types that need a service of a vendor: known by name, and not available here.
//!
//! A flow that has one loads, with a warning; the node keeps its stored ports, and fails when it would run. So these
//! types have no ports of their own here: what is stored counts.

use super::{Behaviour, NodeType};

const MODELS: &str = "a language model";
const VAULT: &str = "the ArchAI vault";
const ARCHAI: &str = "the ArchAI chat";
const KNOWLEDGE: &str = "the ArchAI knowledge base";
const BADAI: &str = "the BadAI chat";
const CHAIN: &str = "a blockchain";
const OKX: &str = "the OKX DEX";
const MARKET: &str = "CoinMarketCap";

/// The types of vendors.
pub(super) const TYPES: &[NodeType] = &[
    vendor("SecretNode", "secret", VAULT, "A secret from the vault"),
    vendor("LLMCallNode", "llm", MODELS, "Streams the answer to a prompt"),
    vendor("LLMCallWithStructuredOutputNode", "llm", MODELS, "An answer in a given shape (older form)"),
    vendor("LLMCallWithStructuredOutputNodeV2", "llm", MODELS, "An answer in a given shape"),
    vendor("AntropicLLMCallNode", "llm", MODELS, "A conversation with Anthropic's models, with tools"),
    vendor("NodeAsAnthropicToolNode", "llm", MODELS, "Holds a node that a model may call as a tool"),
    vendor("AntropicSimplePromptNode", "llm", MODELS, "A prompt as a list of one message"),
    vendor("AntropicToolCollectorNode", "llm", MODELS, "Joins two lists of tools"),
    vendor("ToolsCollectionNode", "llm", MODELS, "Collects tools"),
    vendor("GeminiTextPartNode", "llm", MODELS, "A text as part of a message"),
    vendor("GeminiFilePartNode", "llm", MODELS, "A file as part of a message"),
    vendor("GeminiImagePartNode", "llm", MODELS, "An image as part of a message"),
    vendor("GeminiMessagePartNode", "llm", MODELS, "A part of a message from any of its fields"),
    vendor("GeminiMessageNode", "llm", MODELS, "A message from a role and parts"),
    vendor("GeminiMultimodalCallNode", "llm", MODELS, "Streams the answer of Google's models"),
    vendor("GeminiStructuredOutputNode", "llm", MODELS, "An answer of Google's models in a given shape"),
    vendor("GeminiMultimodalImageNode", "llm", MODELS, "An image by Google's models"),
    vendor("ImagenGenerateNode", "llm", MODELS, "Images by Imagen"),
    vendor("OnNewMessageEventNode", "archai", ARCHAI, "The message that the execution was started for"),
    vendor("ArchAIChatHistoryNode", "archai", ARCHAI, "Messages of a chat"),
    vendor("ArchAIChatMetaNode", "archai", ARCHAI, "What is known of a chat"),
    vendor("CreateMessageArchAINode", "archai", ARCHAI, "Sends a message (older form)"),
    vendor("CreateMessageArchAIV2Node", "archai", ARCHAI, "Sends a message, with attachments and signals"),
    vendor("EditMessageArchAINode", "archai", ARCHAI, "Changes a message"),
    vendor("AppendMessageArchAINode", "archai", ARCHAI, "Appends to a message"),
    vendor("FinishMessageArchAINode", "archai", ARCHAI, "Marks a message as finished"),
    vendor("ArchAIStreamMessageNode", "archai", ARCHAI, "Sends a stream as a message, as it comes"),
    vendor("ArchAIUploadAttachmentNode", "archai", ARCHAI, "Uploads a file"),
    vendor("ArchAIAddMessageAttachmentNode", "archai", ARCHAI, "Attaches a file to a message"),
    vendor("AddAgentsToChatArchAINode", "archai", ARCHAI, "Adds agents to a chat"),
    vendor("ArchAIGetVariableNode", "archai", ARCHAI, "Reads a variable"),
    vendor("ArchAISetVariableNode", "archai", ARCHAI, "Writes a variable"),
    vendor("AppendVariableNode", "archai", ARCHAI, "Appends to a variable"),
    vendor("ArchAIAttachmentsToGeminiPartsNode", "archai", ARCHAI, "Attachments as parts for Google's models"),
    vendor("ArchAIMessagesToAnthropicConverterNode", "archai", ARCHAI, "Messages for Anthropic's models"),
    vendor("ArchAIToAntropicConverterNode", "archai", ARCHAI, "Messages for Anthropic's models (older form)"),
    vendor("ArchAIMessagesToGeminiConverterNode", "archai", ARCHAI, "Messages for Google's models"),
    vendor("ArchAICreateCollectionNode", "arch-rag", KNOWLEDGE, "Makes a collection"),
    vendor("ArchAICreateDocumentNode", "arch-rag", KNOWLEDGE, "Makes a document"),
    vendor("ArchAICreatePageNode", "arch-rag", KNOWLEDGE, "Adds pages to a document"),
    vendor("ArchAIGetDocumentsByCollectionNode", "arch-rag", KNOWLEDGE, "Documents of a collection"),
    vendor("ArchAIGetPagesByDocumentNode", "arch-rag", KNOWLEDGE, "Pages of a document"),
    vendor("ArchAIGetIndexingDocumentTasksByCollectionNode", "arch-rag", KNOWLEDGE, "A collection's indexing tasks"),
    vendor("ArchAIGetIndexingDocumentTasksByDocumentNode", "arch-rag", KNOWLEDGE, "A document's indexing tasks"),
    vendor("ArchAIIndexDocumentNode", "arch-rag", KNOWLEDGE, "Has a document indexed"),
    vendor("ArchAIKnowledgeDatabaseQueryNode", "arch-rag", KNOWLEDGE, "Searches by meaning"),
    vendor("BadAIChatHistoryNode", "badai", BADAI, "Messages of a chat"),
    vendor("BadAIChatMetaNode", "badai", BADAI, "What is known of a chat"),
    vendor("CreateMessageBadAINode", "badai", BADAI, "Sends a message"),
    vendor("EditMessageBadAINode", "badai", BADAI, "Changes a message"),
    vendor("AppendMessageBadAINode", "badai", BADAI, "Appends to a message"),
    vendor("FinishMessageBadAINode", "badai", BADAI, "Marks a message as finished"),
    vendor("BadAIStreamMessageNode", "badai", BADAI, "Sends a stream as a message, as it comes"),
    vendor("GetWalletInfoNode", "blockchain", CHAIN, "The wallet that the execution was started with"),
    vendor("GetNativeBalanceNode", "blockchain", CHAIN, "An address's balance in the chain's own coin"),
    vendor("GetTokenBalanceNode", "blockchain", CHAIN, "An address's balance in a token"),
    vendor("GetERC20TokenInfoNode", "blockchain", CHAIN, "What is known of a token"),
    vendor("CheckTokenAllowanceNode", "blockchain", CHAIN, "How much of a token may be spent"),
    vendor("BuildTransferNode", "blockchain", CHAIN, "A transaction that transfers"),
    vendor("TokenBalanceFormatter", "blockchain", CHAIN, "Balances in units that people read"),
    vendor("AlchemyRawBalances", "blockchain", CHAIN, "An address's balances, by Alchemy"),
    vendor("AlchemyTokenBalances", "blockchain", CHAIN, "An address's balances, by Alchemy (older form)"),
    vendor("AlchemyTokenBalancesWithMeta", "blockchain", CHAIN, "Balances with token data, by Alchemy (older form)"),
    vendor("CoinMarketCapNode", "market-data", MARKET, "Prices of coins"),
    vendor("OKXConfigNode", "okx", OKX, "Collects the configuration"),
    vendor("OKXChainSelectorNode", "okx", OKX, "The chosen chain's id"),
    vendor("OKXGetChainDataNode", "okx", OKX, "What is known of a chain"),
    vendor("OKXGetTokensNode", "okx", OKX, "Tokens of a chain"),
    vendor("OKXGetLiquidityNode", "okx", OKX, "Sources of liquidity"),
    vendor("OKXQuoteParamsNode", "okx", OKX, "Collects what a quote needs"),
    vendor("OKXGetQuoteNode", "okx", OKX, "A quote for a swap"),
    vendor("OKXSwapParamsNode", "okx", OKX, "Collects what a swap needs"),
    vendor("OKXGetSwapDataNode", "okx", OKX, "The transaction of a swap"),
];

const fn vendor(name: &'static str, category: &'static str, service: &'static str, about: &'static str) -> NodeType {
    NodeType {
        name,
        category,
        about,
        ports: &[],
        behaviour: Behaviour::Unavailable { service },
        disabled_auto_execution: false,
    }
}
