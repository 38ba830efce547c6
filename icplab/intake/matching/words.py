"""Reads nothing, makes the word lists that names and domains of organisations are read with."""

from __future__ import annotations

# Legal forms by kind, as they stand at the end of a name without dots (ISO 20275 lists the same forms by country).
LEGAL_FORMS = {
    "gmbh": "gmbh|mbh|gesellschaft mit beschraenkter haftung|gesellschaft mit beschrankter haftung|ug|gmbh co kg|gmbh co|gmbh und co kg|kgaa|co kgaa|kg|ohg|ek",
    "ag": "ag|aktiengesellschaft|se",
    "inc": "inc|incorporated|corp|corporation|llc|lp|llp|pbc",
    "ltd": "ltd|limited|pty ltd|pty limited|pte ltd|private limited|pvt ltd|pvt|ltda|limitada",
    "plc": "plc|public limited company",
    "sa": "sa|societe anonyme|sociedad anonima|sau|sca|spa|societa per azioni",
    "sarl": "sarl|sas|sasu|srl|sl|slu|sprl|eurl|bvba|snc|sociedad limitada",
    "bv": "bv|nv|besloten vennootschap|naamloze vennootschap",
    "ab": "ab|as|a s|asa|aps|oy|oyj|aktiebolag|aktieselskab",
    "other": "sp z o o|sp z oo|sp zoo|spzoo|spolka z oo|spol s ro|spol s r o|s r o|sro|doo|kft|zrt|oao|ooo|kk|kabushiki kaisha|sdn bhd|bhd|pt|tbk|jsc|pjsc|co ltd|ev|eg|sa de cv|s de rl de cv|sapi de cv",
}
COMPANY = "co|company|cie|compagnie"  # stands before a legal form or alone; says nothing about which form it is
FORMS_IN_FRONT = "ab|as|oy|aps|pt|ooo|oao|jsc|pjsc|gmbh|corporation|company"  # some countries, and sorted lists

# Short forms and the word that both are read as.
SHORT_FORMS = {
    "intl": "international",
    "intern": "international",
    "mfg": "manufacturing",
    "manuf": "manufacturing",
    "tech": "technology",
    "technologies": "technology",
    "techn": "technology",
    "sys": "system",
    "svc": "service",
    "svcs": "service",
    "serv": "service",
    "grp": "group",
    "gruppe": "group",
    "groupe": "group",
    "grupo": "group",
    "hldg": "holding",
    "hldgs": "holding",
    "assoc": "associate",
    "assocs": "associate",
    "associates": "associate",
    "bros": "brother",
    "natl": "national",
    "eng": "engineering",
    "engr": "engineering",
    "ind": "industry",
    "inds": "industry",
    "industries": "industry",
    "mgmt": "management",
    "mgt": "management",
    "dev": "development",
    "ctr": "center",
    "centre": "center",
    "univ": "university",
    "labs": "laboratory",
    "lab": "laboratory",
    "laboratories": "laboratory",
    "pharma": "pharmaceutical",
    "telecom": "telecommunication",
    "logist": "logistic",
    "dist": "distribution",
    "elec": "electric",
    "fin": "financial",
    "cap": "capital",
    "ptnrs": "partner",
    "sol": "solution",
    "consult": "consulting",
    "constr": "construction",
    "ins": "insurance",
    "trans": "transport",
    "chem": "chemical",
    "chems": "chemical",
    "mach": "machine",
    "machinery": "machine",
    "equip": "equipment",
    "pkg": "packaging",
    "mktg": "marketing",
    "envir": "environment",
    "environ": "environment",
    "environmental": "environment",
    "hosp": "hospital",
    "inst": "institute",
    "instr": "instrument",
    "govt": "government",
    "dept": "department",
    "equipt": "equipment",
    "commun": "communication",
    "comm": "communication",
    "prods": "product",
    "prod": "product",
    "prop": "property",
    "props": "property",
    "agri": "agriculture",
    "agric": "agriculture",
    "auto": "automotive",
    "fdn": "foundation",
    "lic": "license",
    "petrol": "petroleum",
    "refrig": "refrigeration",
    "struct": "structure",
    "transp": "transport",
    "transportation": "transport",
    "whse": "warehouse",
    "whsle": "wholesale",
    "foods": "food",
}
# Words that tell nothing apart.
STOP_WORDS = "and|und|et|y|e|og|och|en|the|der|die|das|le|la|les|el|of|de|du|des|del|for|fuer|fur|di|da"

# Words that many names hold: their base rate, where a short list says little about it.
GENERIC = frozenset(
    """
    account associate bank brother business capital care center chemical cloud company component computer construction
    consulting customer data design development digital distribution electric electronic energy engineering enterprise
    entertainment equipment finance financial first food foundation global group health healthcare holding home
    industry information instrument insurance international investment laboratory logistic machine management
    manufacturing market material media medical metal motor national network new office packaging paper partner
    pharmaceutical plastic power print product production project property research resource retail sample school
    security service shop software solution steel store supply system technology telecommunication test textile tool
    trade trading transport travel university water wood work works world
    """.split()
)

_PLACES = """
    afghanistan albania algeria angola argentina armenia australia austria osterreich azerbaijan bahrain bangladesh
    belarus belgium belgique belgie bolivia bosnia botswana brazil brasil bulgaria cambodia cameroon canada chile china
    colombia croatia cyprus czechia denmark danmark ecuador egypt estonia ethiopia finland suomi france georgia germany
    deutschland ghana greece guatemala honduras hungary iceland india indonesia iran iraq ireland israel italy italia
    jamaica japan jordan kazakhstan kenya korea kuwait latvia lebanon liechtenstein lithuania luxembourg malaysia malta
    mexico moldova mongolia morocco namibia netherlands nederland nicaragua nigeria norway norge oman pakistan panama
    paraguay peru philippines poland polska portugal qatar romania russia rwanda senegal serbia singapore slovakia
    slovenia somalia spain espana sudan sweden sverige switzerland schweiz suisse svizzera syria taiwan tanzania
    thailand tunisia turkey turkiye uganda ukraine uruguay usa us uk uae britain england scotland wales uzbekistan
    venezuela vietnam yemen zambia zimbabwe
    emea apac dach latam nordic nordics benelux iberia iberica europe europa asia africa americas america oceania
    baltics scandinavia
    amsterdam athens atlanta austin bangalore bangkok barcelona beijing berlin birmingham bogota boston brussels
    bucharest budapest chicago cologne copenhagen dallas delhi denver dubai dublin dusseldorf edinburgh frankfurt
    geneva glasgow hamburg helsinki houston istanbul jakarta johannesburg lagos leeds leipzig lima lisbon london lyon
    madrid manchester manila marseille melbourne miami milan milano montreal moscow mumbai munich munchen nairobi
    oslo paris philadelphia porto prague rome roma rotterdam santiago seattle seoul shanghai stockholm stuttgart sydney
    tokyo toronto vancouver vienna warsaw wien zurich
"""

# Places of several words, as one; said before a name is cut into words.
LONG_PLACES = {
    "united states of america": "usa",
    "united states": "usa",
    "united kingdom": "uk",
    "great britain": "uk",
    "united arab emirates": "uae",
    "new zealand": "newzealand",
    "south africa": "southafrica",
    "south korea": "korea",
    "saudi arabia": "saudiarabia",
    "hong kong": "hongkong",
    "czech republic": "czechia",
    "north america": "northamerica",
    "south america": "southamerica",
    "latin america": "latam",
    "middle east": "middleeast",
    "asia pacific": "apac",
    "costa rica": "costarica",
    "sri lanka": "srilanka",
    "puerto rico": "puertorico",
    "new york": "newyork",
    "los angeles": "losangeles",
    "san francisco": "sanfrancisco",
    "sao paulo": "saopaulo",
    "buenos aires": "buenosaires",
    "tel aviv": "telaviv",
}
PLACES = frozenset(_PLACES.split()) | frozenset(LONG_PLACES.values())
# One place under several names.
SAME_PLACE = {
    "deutschland": "germany",
    "osterreich": "austria",
    "schweiz": "switzerland",
    "suisse": "switzerland",
    "svizzera": "switzerland",
    "espana": "spain",
    "iberica": "iberia",
    "italia": "italy",
    "brasil": "brazil",
    "belgique": "belgium",
    "belgie": "belgium",
    "polska": "poland",
    "danmark": "denmark",
    "suomi": "finland",
    "norge": "norway",
    "sverige": "sweden",
    "nederland": "netherlands",
    "turkiye": "turkey",
    "us": "usa",
    "britain": "uk",
    "europa": "europe",
    "nordics": "nordic",
    "munchen": "munich",
    "milano": "milan",
    "roma": "rome",
    "wien": "vienna",
}

# Domains on which unrelated organisations stand: mail boxes, site builders, shops, networks.
SHARED_HOSTS = frozenset(
    """
    gmail.com googlemail.com google.com outlook.com hotmail.com live.com msn.com yahoo.com yahoo.co.uk yahoo.fr yahoo.de
    aol.com icloud.com me.com mac.com gmx.de gmx.net gmx.com web.de t-online.de freenet.de mail.ru yandex.ru yandex.com
    qq.com 163.com 126.com sina.com orange.fr wanadoo.fr free.fr laposte.net libero.it virgilio.it protonmail.com
    proton.me zoho.com mail.com fastmail.com comcast.net verizon.net att.net sbcglobal.net btinternet.com sky.com
    facebook.com instagram.com linkedin.com twitter.com x.com youtube.com tiktok.com xing.com etsy.com ebay.com
    amazon.com wordpress.com blogspot.com wixsite.com wix.com weebly.com squarespace.com webflow.io jimdo.com
    jimdosite.com myshopify.com shopify.com github.io gitlab.io netlify.app vercel.app herokuapp.com web.app
    azurewebsites.net cloudfront.net amazonaws.com business.site sites.google.com godaddysites.com tumblr.com medium.com
    example.com example.org example.net test.com none.com unknown.com na.com localhost
    """.split()
)
# Public suffixes of two parts under which organisations register.
_SECOND_LEVEL = "co|com|org|net|ac|gov|edu|ne|or|gob|gouv"
SECOND_LEVEL = rf"(?:{_SECOND_LEVEL})\.[a-z]{{2}}"
