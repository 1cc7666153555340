// The API key: kept in this tab's sessionStorage only, sent as a header.

const NAME = "zoodip-key";

export const storedKey = () => sessionStorage.getItem(NAME);
export const storeKey = (key) => sessionStorage.setItem(NAME, key);
export const forgetKey = () => sessionStorage.removeItem(NAME);
export const authorization = () => (storedKey() ? { Authorization: `Bearer ${storedKey()}` } : {});
