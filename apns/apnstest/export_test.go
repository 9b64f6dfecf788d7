package apnstest

// HuffmanDecode decodes a string as the header decoder does.
func HuffmanDecode(src []byte) ([]byte, error) { return huffmanTable().appendDecoded(nil, src) }
