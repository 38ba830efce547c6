"""Declares the exports of HubSpot: companies, deals, contacts and tickets, with internal names or labels as headers."""

from __future__ import annotations

from icplab.intake.layouts.declare import Link, Object, feed, native_object, words

SYSTEM = "HubSpot"

# Plain names of columns that are bookkeeping of the CRM, personal data or long text. `hs…` covers internal properties.
BOOKKEEPING = r"""^(
  hs\w+ | recordid | createdate | lastmodifieddate | lastactivity\w* | lastcontacted | lastcontact\w* | nextactivity\w*
  | noteslast\w* | notesnext\w* | num\w*notes | numcontactednotes | numberoftimescontacted | numberofsalesactivities
  | hubspot\w* | \w*owner\w* | \w*(phone|mobile|fax|email)\w* | address\d? | streetaddress\d? | city | zip | postalcode
  | firstname | lastname | salutation | dateofbirth | description | aboutus | name | companyname | dealname | ticketname
  | dealdescription | associated\w* | primaryassociated\w* | numassociated\w* | numberofassociated\w* | website
  | websiteurl | logourl | photo\w* | \w*handle | \w*page(url)? | twitter\w* | facebook\w* | linkedinbio
  | facebookfans | twitterfollowers | timezone | firsttouch\w* | lasttouch\w* | timefirstseen | timelastseen
  | timeof(first|last)session | firstpageseen | lastpageseen | firstreferringsite | lastreferringsite | webtechnologies
  | numberof(pageviews|sessions|visits|formsubmissions) | num(pageviews|visits|sessions) | originalsource\w*
  | originaltrafficsource\w* | latesttrafficsource\w* | latestsource\w* | first(conversion|contact)\w*
  | recentconversion\w* | numconversion\w* | uniqueformssubmitted | mergedrecordids | mergedobjectids
  | createdby\w* | updatedby\w* | objectcreate\w* | objectlastmodified\w* | isdeleted | archived
  | daystoclose | closedate | dealcurrencycode | currency | pipelinestage
)$"""
# Of a company, besides: what its deals made of it.
ACCOUNT_OUTCOME = r"""^(
  totalrevenue | recentdeal\w* | firstdeal\w* | numassociateddeals | numberofopendeals | totalopendealvalue
  | becamea\w* | lifecyclestage | leadstatus | annualrecurringrevenue | totalmoneyraised | numberofassociateddeals
)$"""
# Of a deal, besides: what restates its outcome or is known only because it closed.
DEAL_OUTCOME = r"""^(
  dealprobability | dealstageprobability | probability | weightedamount\w* | amount\w* | forecast\w* | closed\w*
  | isclosed\w* | isdealclosed | isopen\w* | dealstage | dateentered\w* | dateexited\w* | \w*timein\w* | dealscore
  | closedwonreason | closedlostreason | daysincurrentstage | annualcontractvalue | totalcontractvalue
  | monthlyrecurringrevenue | annualrecurringrevenue | nextstep
)$"""
STAGE_DATE = r'^(?:hs_(?:v2_)?date_entered_(?P<internal>\w+)|date entered "?(?P<label>.+?)"?(?: \([^()]*\))?"?)$'

LIFECYCLE = words("""
    customer : Customer, Evangelist
    prospect : Subscriber, Lead, Marketing Qualified Lead, Sales Qualified Lead, Opportunity, Other
    former : Former Customer, Former
    partner : Partner
    competitor : Competitor
""")
COMPANY_TYPES = words("""
    partner : Partner, Reseller
    competitor : Competitor
    former : Former Customer, Past Customer, Former
    customer : Customer
    prospect : Prospect
    "" : Vendor, Other
""")
DEAL_TYPES = words("""
    new : newbusiness, New Business, New, New Customer, New Logo
    expansion : existingbusiness, Existing Business, Expansion, Upsell, Cross-sell, Upgrade, Add-On
    renewal : Renewal, Renewals
""")
STATUSES = words("""
    won : closedwon, Closed Won, Won
    lost : closedlost, Closed Lost, Lost
    open : appointmentscheduled, qualifiedtobuy, presentationscheduled, decisionmakerboughtin, contractsent
    open : Appointment Scheduled, Qualified To Buy, Presentation Scheduled, Decision Maker Bought-In, Contract Sent
""")
_RECORD = """
    ~modified : hs_lastmodifieddate | Last Modified Date | Object last modified date/time
    ~merged : hs_merged_object_ids | Merged object IDs | Merged Record IDs
    ~deleted : archived
"""
_COMPANY = (
    "hs_primary_associated_company | Primary Associated Company ID | Primary Associated Company | Associated Company IDs (Primary)"
    " | associatedcompanyid | Associated Company ID | Associated Company IDs | Primary company ID"
)
_BY_COMPANY = (Link("account_id", "~account_name", "accounts.name", "account_id"),)
_COMPANY_NAMES = "Associated Company (Primary) | Associated Company | Associated Company Names | Company Name"

COMPANY = native_object(
    SYSTEM,
    "companies",
    [
        feed(
            "accounts",
            """
            account_id : hs_object_id | Record ID | Company ID | companyId
            name : name | Company name
            domain : domain | Company Domain Name
            industry : industry
            employees : numberofemployees | Number of Employees
            annual_revenue : annualrevenue | Annual Revenue
            country : country | Country/Region | hs_country_code
            region : region | Sales Region
            founded_year : founded_year | Year Founded
            parent_account_id : hs_parent_company_id | Parent Company ID | Parent Company IDs
            ~parent_name : Parent Company
            created_at : createdate | Create Date
            ~lifecycle : lifecyclestage | Lifecycle Stage
            account_type : type | Type
            owner : hubspot_owner_id | Company owner
            linkedin_url : linkedin_company_page | LinkedIn Company Page
            """
            + _RECORD,
            values={"account_type": COMPANY_TYPES},
            links=(Link("parent_account_id", "~parent_name", "accounts.name", "account_id"),),
            reshape="lifecycle",
        )
    ],
    files="company companies all-companies hubspot-crm-exports-all-companies",
    signs=(
        *(
            f"{key} + {n}"
            for key in ("hs_object_id", "Record ID", "companyId")
            for n in (
                "domain",
                "Company name",
                "Company Domain Name",
                "numberofemployees",
                "name + lifecyclestage",
                "name + industry",
            )
        ),
    ),
    without="dealstage | dealname | Deal Stage | Deal Name | Email | firstname | First Name | Ticket name | Ticket status | subject",
    aside=f"{BOOKKEEPING}|{ACCOUNT_OUTCOME}",
)

DEAL = native_object(
    SYSTEM,
    "deals",
    [
        feed(
            "opportunities",
            f"""
            opportunity_id : hs_object_id | Record ID | Deal ID | dealId
            ~name : dealname | Deal Name
            account_id : {_COMPANY}
            ~account_name : {_COMPANY_NAMES}
            created_at : createdate | Create Date | hs_createdate
            closed_at : closedate | Close Date
            stage : dealstage | Deal Stage
            is_won : hs_is_closed_won | Is Closed Won
            is_closed : hs_is_closed | Is Deal Closed? | Is Closed
            ~is_lost : hs_is_closed_lost | Is closed lost
            amount : amount
            currency : deal_currency_code | Currency
            ~converted : amount_in_home_currency | Amount in company currency
            type : dealtype | Deal Type
            source : deal_source | Lead Source | hs_analytics_source | Original Traffic Source | Original Source Type
            campaign_id : hs_campaign_id | Campaign ID
            owner : hubspot_owner_id | Deal owner
            loss_reason : closed_lost_reason & hs_closed_lost_reason & Closed Lost Reason
            product : product | Product Name
            term_months : term_months | Contract Term (months)
            """
            + _RECORD,
            values={"status": STATUSES, "type": DEAL_TYPES},
            links=_BY_COMPANY,
            reshape="first_of_list",
        ),
        feed(
            "stage_history",
            "opportunity_id : hs_object_id | Record ID | Deal ID | dealId\n~stage : dealstage | Deal Stage",
            reshape="stage_dates",
        ),
        feed(
            "opportunity_contacts",
            """
            opportunity_id : hs_object_id | Record ID | Deal ID | dealId
            contact_id : Associated Contact IDs | Associated Contact ID | associatedcontactids | Associated Contact Record IDs
            """,
            needs=("contact_id",),
            reshape="one_by_one",
        ),
    ],
    files="deal deals all-deals hubspot-crm-exports-all-deals",
    signs=(
        *(
            f"{key} + {n}"
            for key in ("hs_object_id", "Record ID", "Deal ID", "dealId")
            for n in (
                "dealstage",
                "dealname",
                "Deal Stage",
                "Deal Name",
            )
        ),
    ),
    without="Ticket name | Ticket status | firstname | First Name",
    aside=f"{BOOKKEEPING}|{DEAL_OUTCOME}",
)

CONTACT = native_object(
    SYSTEM,
    "contacts",
    [
        feed(
            "contacts",
            f"""
            contact_id : hs_object_id | Record ID | Contact ID | vid
            account_id : {_COMPANY}
            ~account_name : {_COMPANY_NAMES}
            title : jobtitle | Job Title
            role : hs_buying_role | Buying Role
            seniority : seniority | hs_seniority | Employment Seniority
            department : department | Job function | job_function
            email : email
            opted_out : hs_email_optout | Unsubscribed from all email
            """
            + _RECORD,
            links=_BY_COMPANY,
            reshape="first_of_list",
        )
    ],
    files="contact contacts all-contacts hubspot-crm-exports-all-contacts",
    signs=(
        *(
            f"{key} + {n}"
            for key in ("hs_object_id", "Record ID", "vid")
            for n in (
                "firstname",
                "First Name",
                "Email",
                "jobtitle",
                "Job Title",
                "hs_buying_role",
            )
        ),
    ),
    without="dealstage | dealname | Ticket name | Ticket status | Company Domain Name | subject",
    aside=BOOKKEEPING,
)

TICKET = native_object(
    SYSTEM,
    "tickets",
    [
        feed(
            "activities",
            f"""
            activity_id : hs_object_id | Record ID | Ticket ID
            account_id : {_COMPANY}
            ~account_name : {_COMPANY_NAMES}
            contact_id : Associated Contact IDs | Associated Contact ID
            occurred_at : createdate | Create Date
            topic : hs_ticket_category | Category
            outcome : hs_pipeline_stage | Ticket status
            """
            + _RECORD,
            constants={"type": "ticket"},
            links=(*_BY_COMPANY, Link("account_id", "contact_id", "contacts.contact_id", "account_id")),
            reshape="first_of_list",
        )
    ],
    files="ticket tickets all-tickets hubspot-crm-exports-all-tickets",
    signs=(
        *(
            f"{key} + {n}"
            for key in ("hs_object_id", "Record ID", "Ticket ID")
            for n in (
                "hs_ticket_category",
                "hs_pipeline_stage",
                "Ticket name",
                "Ticket status",
            )
        ),
    ),
    aside=BOOKKEEPING,
)

OBJECTS: tuple[Object, ...] = (COMPANY, DEAL, CONTACT, TICKET)
